"""Self-contained HTML reports: one file with its pictures inside, nothing fetched from anywhere.

:class:`~realdiff_experiments.report.demo.DemoReport` is the entry point; the other modules turn arrays into pictures
(:mod:`images`, :mod:`clouds`), measurements into charts (:mod:`charts`), and all of it into HTML (:mod:`html`).
"""
