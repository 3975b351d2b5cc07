"""Elements of the study's page: sortable tables, cells with a score and its interval, links to where it came from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from fusmae.study.results import Cell
from fusmae.study.summary import Line, Spread, Study
from fusmae.study.tables import with_deviation


@dataclass(frozen=True)
class Column:
    """A sortable column.

    Attributes:
        name: in the head.
        is_number: right-aligned.
        group: what stands above it and its neighbours of the same group; "" for none.
        title: what hovering tells.
    """

    name: str
    is_number: bool = True
    group: str = ""
    title: str = ""


def sortable(columns: Sequence[Column], rows: Iterable[str], caption: str) -> str:
    """A table in a card, whose heads the page's script makes into buttons.

    Args:
        columns: of which the first names the row.
        rows: as HTML.
        caption: what the table shows, for who can't see it.
    """
    heads = "".join(_head(at, column) for at, column in enumerate(columns))
    above = f"<tr>{_groups(columns)}</tr>" if any(column.group for column in columns) else ""
    return (
        f'<div class="card" tabindex="0" role="region" aria-label="{escape(caption)}"><table class="sortable">'
        f'<caption class="unseen">{escape(caption)}</caption>'
        f"<thead>{above}<tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def row(name: str, cells: Iterable[str]) -> str:
    """A table's row; its name as HTML."""
    return f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>'


def text(value: str) -> str:
    """A cell with a text."""
    return f"<td>{escape(value)}</td>"


def number(value: float | None, shown: str | None = None) -> str:
    """A cell with a number; a dash for none."""
    if value is None:
        return '<td class="number">–</td>'
    return f'<td class="number" data-value="{value:.6g}">{escape(shown or f"{value:.3f}")}</td>'


def deviating(found: Spread | None) -> str:
    """A cell with a mean and its deviation over seeds."""
    return number(None) if found is None else number(found.mean, with_deviation(found))


def scored(line: Line | None) -> str:
    """A cell with the headline score, its deviation and its interval."""
    if line is None:
        return number(None)
    seeds = f"{'seed' if len(line.seeds) == 1 else 'seeds'} {', '.join(map(str, line.seeds))}"
    return (
        f'<td class="number" data-value="{line.headline.mean:.6g}" title="{escape(f"{line.label}: {seeds}")}">'
        f'{with_deviation(line.headline)}<span class="quiet">{line.low:.3f} – {line.high:.3f}</span></td>'
    )


def linked(study: Study, variant: str) -> str:
    """A variant's name: a link to its cells that tells, on hovering, where they came from."""
    first = study.of(variant)[0].cell
    return f'<a href="#{anchor(first)}" title="{escape(origins(study, variant))}">{escape(variant)}</a>'


def origins(study: Study, variant: str) -> str:
    """Run, commit and data of a variant's cells, a line each."""
    return "\n".join(f"seed {found.cell.seed}: {_origin(found.cell)}" for found in study.of(variant))


def signed(value: float) -> str:
    """`+0.031`, with a minus as long as the plus."""
    return f"{value:+.3f}".replace("-", "−")


def anchor(cell: Cell) -> str:
    """Where a cell stands in the page's last table."""
    return escape(f"cell-{cell.variant}-{cell.seed}".replace(" ", "-"))


def details(summary: str, body: str, *, is_open: bool = False) -> str:
    """A part that can be folded."""
    return f"<details{' open' if is_open else ''}><summary>{escape(summary)}</summary>{body}</details>"


def _head(at: int, column: Column) -> str:
    kind = "number" if column.is_number else ""
    title = f' title="{escape(column.title)}"' if column.title else ""
    return f'<th scope="col" class="{kind}" data-column="{at}"{title}>{escape(column.name)}</th>'


def _groups(columns: Sequence[Column]) -> str:
    spans: list[tuple[str, int]] = []
    for column in columns:
        if spans and spans[-1][0] == column.group:
            spans[-1] = (column.group, spans[-1][1] + 1)
        else:
            spans.append((column.group, 1))
    return "".join(
        f'<th scope="colgroup" colspan="{width}" class="group">{escape(name)}</th>'
        if name
        else f'<td colspan="{width}"></td>'
        for name, width in spans
    )


def _origin(cell: Cell) -> str:
    known = cell.origin
    return f"run {known.get('run')}, commit {known.get('commit')}, data {known.get('data')}"
