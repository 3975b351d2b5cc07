"""The page's parts about what no label was needed for, and about where every number came from."""

from collections.abc import Mapping
from html import escape

from fusmae.reports.study_tables import Column, anchor, deviating, linked, number, row, sortable, text
from fusmae.study.summary import Spread, Study, spreads

_FILLS = ("band mean", "nearest")
_RETRIEVED = ("recall@1", "chance@1", "recall@5", "chance@5")


def evidence_section(study: Study) -> str:
    """Reconstruction against simple fills, and retrieval across modalities."""
    return (
        f"<h3>Reconstruction of removed patches</h3>{_reconstruction(study)}"
        f"<h3>Cross-modal retrieval</h3>{_retrieval(study)}"
    )


def _reconstruction(study: Study) -> str:
    rows = []
    for variant in study.variants:
        tables = [found.cell.reconstruction for found in study.of(variant)]
        for modality in dict.fromkeys(name for table in tables for name in table):
            errors = spreads([table[modality] for table in tables if modality in table])
            cells = [text(modality), *(deviating(errors.get(name)) for name in ("model", *_FILLS))]
            rows.append(row(linked(study, variant), [*cells, text(_against_fills(errors))]))
    if not rows:
        return "<p>No variant reconstructs.</p>"
    columns = [
        Column("variant", is_number=False),
        Column("modality", is_number=False),
        *(Column(name) for name in ("model", *_FILLS)),
        Column("in words", is_number=False),
    ]
    note = (
        '<p class="quiet">Mean squared error on removed patches of the test set, in units of the model’s targets '
        "(less is better), against filling them with the band’s mean or the nearest visible patch.</p>"
    )
    return note + sortable(columns, rows, "Reconstruction errors")


def _against_fills(errors: Mapping[str, Spread]) -> str:
    model = errors["model"].mean
    beaten = [name for name in _FILLS if name in errors and model < errors[name].mean]
    lost = [name for name in _FILLS if name in errors and name not in beaten]
    parts = [f"below {' and '.join(beaten)}"] if beaten else []
    return "; ".join([*parts, *([f"not below {' or '.join(lost)}"] if lost else [])])


def _retrieval(study: Study) -> str:
    rows = []
    for variant in study.variants:
        tables = [found.cell.retrieval for found in study.of(variant)]
        for direction in dict.fromkeys(name for table in tables for name in table):
            found = spreads([table[direction] for table in tables if direction in table])
            candidates = found["candidates"].mean
            cells = [text(direction), *(deviating(found.get(name)) for name in _RETRIEVED)]
            rows.append(row(linked(study, variant), [*cells, number(candidates, f"{candidates:,.0f}")]))
    if not rows:
        return "<p>No variant has two modalities to retrieve across.</p>"
    names = [*_RETRIEVED, "candidates"]
    columns = [Column("variant", is_number=False), Column("direction", is_number=False), *map(Column, names)]
    note = '<p class="quiet">How often a tile’s partner is among the first 1 or 5 of all candidates, and by chance.</p>'
    return note + sortable(columns, rows, "Cross-modal retrieval")


def origin_section(study: Study) -> str:
    """A row a cell: run, commit, data, device."""
    heads = ("cell", "seed", "run", "commit", "data", "device")
    rows = []
    for found in study.cells:
        cell, known = found.cell, found.cell.origin
        dirty = '<span class="status warns">with changes</span>' if known.get("is_dirty") else ""
        rows.append(
            f'<tr id="{anchor(cell)}"><th scope="row">{escape(cell.variant)}</th>{number(cell.seed, str(cell.seed))}'
            f"<td><code>{_known(known.get('run'))}</code></td>"
            f"<td><code>{_known(known.get('commit'))}</code> {dirty}</td>"
            f"<td><code>{_known(known.get('data'))}</code></td><td>{_known(known.get('device'))}</td></tr>"
        )
    columns = [Column(name, is_number=name == "seed") for name in heads]
    note = '<p class="quiet">Each number of the page is of these cells: a variant with one seed, in one MLflow run.</p>'
    return note + sortable(columns, rows, "Where every number came from")


def _known(value: object) -> str:
    return escape(str(value)) if value else "not known"
