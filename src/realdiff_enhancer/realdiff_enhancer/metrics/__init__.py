"""Metrics that compare enhanced depth with real depth: residual, holes, structure, point clouds, two-sample tests.

Everything here is plain NumPy, SciPy and OpenCV; only :mod:`~realdiff_enhancer.metrics.two_sample` needs torch. A frame
is described once by a :class:`~realdiff_enhancer.metrics.frames.CleanContext` (what follows from the clean depth alone)
and then once per depth image measured against it by a :class:`~realdiff_enhancer.metrics.frames.Measurement`.
"""
