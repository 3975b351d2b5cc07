"""The frame of a report's page: one file, no network, light or dark as the reader's system is."""

from html import escape
from string import Template

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root {
  color-scheme: light dark;
  --ground: #f6f7f8; --card: #ffffff; --text: #1b2127; --quiet: #5c6670; --line: #dde2e7; --bars: #8fa3b5;
  --spread: #4a8fe022; --published: #2f6fc0; --measured: #c2410c;
  --passed: #1a7f45; --tolerated: #6b6f1d; --skipped: #6a737d; --warns: #a85b00; --blocks: #c0262d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14181c; --card: #1c2228; --text: #e4e8ec; --quiet: #98a3ae; --line: #323b44; --bars: #6c8094;
    --spread: #4a8fe033; --published: #7db4f5; --measured: #fb8c4f;
    --passed: #4cc07e; --tolerated: #c3c65a; --skipped: #98a3ae; --warns: #f0a94a; --blocks: #f5757b;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text); font: 15px/1.5 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 18px; margin: 36px 0 10px; }
p { margin: 0 0 10px; }
.quiet { color: var(--quiet); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow-x: auto; }
.verdict { border-left: 6px solid; padding: 14px 18px; margin: 18px 0; font-size: 17px; }
.verdict p { margin: 0; } .verdict ul { margin: 6px 0 0; padding-left: 20px; }
.verdict ul, .verdict p + p { color: var(--text); font-size: 15px; }
details { margin: 12px 0 0; } summary { cursor: pointer; font-weight: 600; }
.synthetic { background: #ffd84d; color: #2b2300; font-weight: 700; border-radius: 8px; padding: 12px 18px;
  margin: 18px 0 0; font-size: 17px; }
.passed { color: var(--passed); } .tolerated { color: var(--tolerated); } .skipped { color: var(--skipped); }
.warns { color: var(--warns); } .blocks { color: var(--blocks); }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 9px 14px; border-top: 1px solid var(--line); }
thead th { border-top: 0; font-size: 13px; color: var(--quiet); font-weight: 600; white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th.asked { width: 27%; } th.split { width: 15%; }
.status { font-weight: 700; white-space: nowrap; }
.status::before { content: "●"; margin-right: 7px; }
.name { font-weight: 650; }
td .quiet, td .next { display: block; font-size: 13.5px; }
td .next { margin-top: 4px; }
code { font: 12.5px/1.5 ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.bar { display: block; height: 5px; border-radius: 3px; margin: 3px 0 0 auto; min-width: 1px; }
.bands { display: grid; grid-template-columns: repeat(auto-fill, minmax(255px, 1fr)); gap: 14px; }
.bands figure { margin: 0; padding: 12px 14px 10px; }
figcaption { font-size: 13.5px; color: var(--quiet); }
figcaption b { color: var(--text); font-size: 15px; }
svg { display: block; width: 100%; margin: 8px 0 2px; overflow: visible; }
svg text { fill: var(--quiet); font-size: 12px; }
.bars { fill: var(--bars); } .spread { fill: var(--spread); } .axis { stroke: var(--line); }
line.published { stroke: var(--published); stroke-width: 2; stroke-dasharray: 5 4; }
line.measured { stroke: var(--measured); stroke-width: 2; }
.key span { margin-right: 18px; white-space: nowrap; }
.swatch { display: inline-block; width: 14px; height: 11px; border-radius: 2px; margin: 0 6px 0 0 !important; }
.map { padding: 14px; } .map img { display: block; width: 100%; max-width: 900px; margin: 0 auto; }
</style>
$head</head>
<body><main>
$body
</main></body>
</html>
""")


def page(title: str, body: str, head: str = "") -> str:
    """A whole page of escaped parts; `head` stands in its head, behind the style that all pages share."""
    return _PAGE.substitute(title=escape(title), body=body, head=head)


def table(head: list[tuple[str, str]], rows: list[str]) -> str:
    """A table in a card; columns as (class, name), rows as HTML."""
    cells = "".join(f'<th class="{kind}">{escape(name)}</th>' for kind, name in head)
    return f'<div class="card"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
