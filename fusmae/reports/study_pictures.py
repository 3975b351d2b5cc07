"""The page's pictures: reconstructions, and tiles that the model got wrong."""

import base64
import io
from html import escape
from pathlib import Path

from fusmae.errors import StudyError
from fusmae.study.results import Cell, Picture
from fusmae.study.summary import Study

_MOST = 12
# Dozens of PNGs would make the page too big to send; as WebP they are a tenth.
_MOST_PX, _QUALITY = 1000, 88
_TITLES = {"reconstruction": "Reconstructions", "failure": "Tiles that the model got wrong"}


def picture_section(study: Study) -> str:
    """Pictures of each kind, the reference's first.

    Raises:
        StudyError: a picture can't be read.
    """
    parts = []
    for kind, title in _TITLES.items():
        of_kind = [
            (found.cell, picture, found.folder)
            for found in study.cells
            for picture in found.pictures
            if picture.kind == kind
        ]
        if of_kind:
            shown = "".join(_figure(*item) for item in of_kind[:_MOST])
            parts.append(f'<h3>{title}</h3>{_note(len(of_kind) - _MOST)}<div class="pictures">{shown}</div>')
    return "".join(parts) or "<p>The cells hold no pictures.</p>"


def _note(left: int) -> str:
    return f'<p class="quiet">{left} more are in the cells’ folders.</p>' if left > 0 else ""


def _figure(cell: Cell, picture: Picture, folder: Path) -> str:
    url, width, height = _data_url(folder / picture.file)
    where = ""
    if picture.lon is not None and picture.lat is not None:
        east, north = f"{picture.lon:.4f}", f"{picture.lat:.4f}"
        where = f'<a href="geo:{north},{east}">lon {east}, lat {north}</a> · '
    return (
        f'<figure class="card"><img src="{url}" width="{width}" height="{height}" loading="lazy" decoding="async" '
        f'alt="{escape(f"{picture.kind} of {picture.key}: {picture.caption}")}">'
        f"<figcaption>{escape(picture.caption)}<br>{where}{escape(cell.variant)}, seed {cell.seed}"
        f"<br><code>{escape(picture.key)}</code></figcaption></figure>"
    )


def _data_url(path: Path) -> tuple[str, int, int]:
    from PIL import Image

    buffer = io.BytesIO()
    try:
        with Image.open(path) as image:
            shown = image.convert("RGB")
            shown.thumbnail((_MOST_PX, _MOST_PX))
            shown.save(buffer, "webp", quality=_QUALITY)
    except OSError as error:
        raise StudyError(f"{path}: a picture of the study can't be read: {error}", hint="make study") from error
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode(), shown.width, shown.height
