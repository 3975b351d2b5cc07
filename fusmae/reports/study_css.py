"""The study page's own style, over the one of `fusmae.reports.layout`."""

STYLE = """
:root { --line-0: #1f6fc4; --line-1: #c2410c; --line-2: #1a7f45; --line-3: #8a4fbf; --line-4: #a17a10;
  --line-5: #0e8a94; --line-6: #c23b7a; --line-7: #5c6670; }
@media (prefers-color-scheme: dark) {
  :root { --line-0: #6cb0f7; --line-1: #fb8c4f; --line-2: #4cc07e; --line-3: #c39bf0; --line-4: #e0bd55;
    --line-5: #4fc8d2; --line-6: #f285b5; --line-7: #98a3ae; }
}
html { scroll-padding-top: 60px; }
h1, p, figcaption, dd { overflow-wrap: anywhere; }
h3 { font-size: 15.5px; margin: 24px 0 6px; }
a { color: var(--published); text-underline-offset: 2px; }
nav { position: sticky; top: 0; z-index: 3; background: var(--ground); border-bottom: 1px solid var(--line);
  display: flex; gap: 20px; overflow-x: auto; white-space: nowrap; padding: 11px 0 10px; margin: 18px 0 0; }
nav a { color: var(--quiet); text-decoration: none; font-size: 14px; }
nav a:hover, nav a:focus-visible { color: var(--text); }
:focus-visible { outline: 2px solid var(--published); outline-offset: 2px; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.counts { list-style: none; margin: 0 0 10px; padding: 0; }
.caveats { margin: 14px 0 0; padding-left: 20px; } .caveats li { margin-bottom: 4px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 0; padding: 12px 16px; }
dt { color: var(--quiet); } dd { margin: 0; }
main { max-width: 1320px; }
.card + p { margin-top: 8px; }
tbody th { font-weight: 600; }
tbody th .quiet { display: block; font-size: 13.5px; font-weight: 400; min-width: 170px; }
th.group { text-align: center; border-left: 1px solid var(--line); }
thead td { border: 0; } thead tr + tr th { border-top: 0; padding-top: 0; }
@media (min-width: 601px) {
  .sortable tbody th, .matrix tbody th { position: sticky; left: 0; background: var(--card); z-index: 1; }
}
.answers td, .answers th { width: 1%; } .answers td { min-width: 190px; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 2px 0; cursor: pointer; }
th button::after { content: "↕"; opacity: 0.4; margin-left: 5px; }
th[aria-sort=ascending] button::after { content: "↑"; opacity: 1; }
th[aria-sort=descending] button::after { content: "↓"; opacity: 1; }
details { margin: 10px 0; } summary { cursor: pointer; padding: 4px 0; font-weight: 600; }
.track { display: block; width: 90px; margin: 3px 0 0 auto; background: var(--line); border-radius: 3px; }
.track .bar { margin: 0; }
.matrix th, .matrix td { padding: 4px 6px; font-size: 13px; } .matrix tbody th { min-width: 150px; }
.matrix td, .matrix thead th + th { text-align: right; font-variant-numeric: tabular-nums; }
figure.chart { margin: 0; padding: 12px 14px 10px; min-width: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(360px, 100%), 1fr)); gap: 14px; }
.key i { font-style: normal; }
.compare { display: grid; gap: 12px 20px; padding: 16px 18px;
  grid-template-columns: repeat(auto-fit, minmax(250px, 1fr)); }
.compare label { color: var(--quiet); font-size: 13.5px; min-width: 0; }
select { display: block; width: 100%; margin-top: 4px; padding: 7px 8px; font: inherit; color: var(--text);
  background: var(--ground); border: 1px solid var(--line); border-radius: 6px; }
output { grid-column: 1 / -1; font-size: 17px; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(340px, 100%), 1fr)); gap: 14px; }
.pictures figure { margin: 0; } .pictures img { display: block; width: 100%; height: auto; }
.pictures figcaption { padding: 10px 14px 12px; }
tr:target { background: var(--spread); }
@media (max-width: 600px) { main { padding: 18px 14px 40px; } th, td { padding: 8px 10px; } h1 { font-size: 22px; }
  .answers thead { display: none; } .answers tr, .answers th, .answers td { display: block; width: auto; }
  .answers tr { border-top: 1px solid var(--line); padding: 6px 0; } .answers tbody tr:first-child { border: 0; }
  .answers th, .answers td { border: 0; padding: 4px 12px; }
  .answers td.quiet { display: none; }
  .answers td::before { content: attr(data-share) " "; color: var(--quiet); font-size: 13.5px; } }
"""
