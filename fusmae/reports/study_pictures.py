"""The study page's pictures: reconstructions, and tiles that the model got wrong."""

import base64
import io
from pathlib import Path

from fusmae.errors import StudyError
from fusmae.study.results import Cell, Picture
from fusmae.study.summary import Study

_MOST = 12
# Dozens of PNGs would make the page too big to send; as WebP they are a tenth.
_MOST_PX, _QUALITY = 1000, 88
_TITLES = {"reconstruction": "Reconstructions", "failure": "Tiles that the model got wrong"}


Shown = tuple[Picture, Cell, str, int, int]
"""A picture, the cell that made it, its pixels as a URL, its width and height."""


def pictures_by_title(study: Study) -> dict[str, tuple[list[Shown], int]]:
    """Pictures of each kind, the reference's first, and how many more there are.

    Raises:
        StudyError: a picture can't be read.
    """
    by_title = {}
    for kind, title in _TITLES.items():
        listed = [(found, picture) for found in study.cells for picture in found.pictures if picture.kind == kind]
        if listed:
            shown = [
                (picture, found.cell, *_data_url(found.folder / picture.file)) for found, picture in listed[:_MOST]
            ]
            by_title[title] = (shown, len(listed) - len(shown))
    return by_title


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
