"""The style sheet of the reports: sober, readable on a phone, follows the reader's light or dark preference."""

CSS = """
:root { color-scheme: light dark;
  --page: #f6f7f8; --card: #ffffff; --ink: #1b2026; --soft: #5a6570; --line: #dde2e6;
  --accent: #1f5f8b; --code: #eef1f3; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14181c; --card: #1c2126; --ink: #e4e8eb; --soft: #98a4af; --line: #30373e;
  --accent: #7ab8e0; --code: #252b31; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
header { border-bottom: 1px solid var(--line); margin-bottom: 1.5rem; padding-bottom: 1rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; font-weight: 650; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .4rem; font-weight: 650; }
h3 { font-size: .95rem; margin: 1.4rem 0 .5rem; font-weight: 600; color: var(--soft); }
p { margin: .3rem 0 .9rem; max-width: 78ch; }
.lead { color: var(--soft); margin: 0; }
.note, figcaption, .source { color: var(--soft); font-size: .85rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin-top: .9rem; font-size: .88rem; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .7rem; margin: 1rem 0; }
.fact { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .7rem .85rem; }
.fact b { display: block; font-size: 1.25rem; font-weight: 650; font-variant-numeric: tabular-nums; }
.fact span { color: var(--soft); font-size: .82rem; line-height: 1.3; display: block; }
.row { display: grid; gap: .8rem; margin: .6rem 0 1.4rem;
  grid-template-columns: repeat(auto-fit, minmax(min(280px, 100%), 1fr)); }
.row.three { grid-template-columns: repeat(3, minmax(0, 1fr)); }
.row.two { grid-template-columns: repeat(2, minmax(0, 1fr)); }
@media (max-width: 760px) { .row.three, .row.two { grid-template-columns: 1fr; } }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 6px; overflow: hidden; }
figure img { display: block; width: 100%; height: auto; }
figcaption { padding: .5rem .7rem .55rem; } figcaption b { color: var(--ink); font-weight: 600; }
figure.chart { background: #ffffff; } figure.chart img { padding: .3rem; }
figure.chart figcaption { background: var(--card); }
.scale { display: grid; grid-template-columns: auto 1fr auto; gap: .5rem; align-items: center; margin-top: .35rem;
  font-variant-numeric: tabular-nums; }
.scale i { display: block; height: 9px; border-radius: 2px; border: 1px solid var(--line); }
.key { white-space: nowrap; margin-right: .8rem; }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .35em;
  border: 1px solid var(--soft); border-radius: 2px; vertical-align: -.08em; }
.scroll { overflow-x: auto; margin: .6rem 0 1.2rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; background: var(--card);
  border: 1px solid var(--line); min-width: 50%; }
th, td { padding: .38rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { color: var(--soft); font-weight: 600; }
table.text td { white-space: normal; text-align: left; overflow-wrap: anywhere; }
table.text td:first-child { color: var(--soft);
  white-space: nowrap; width: 1%; }
pre { background: var(--code); border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem; overflow-x: auto;
  font: .84rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; margin: .5rem 0 1.2rem; }
@media print { body { background: #fff; } figure, .fact, table { break-inside: avoid; } }
"""
