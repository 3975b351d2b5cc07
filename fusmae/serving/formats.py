"""The format of an answer, as the client's `Accept` asks for it: JSON, `.npz` or GeoTIFF; and its largest size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from rasterio.transform import from_origin
from starlette.exceptions import HTTPException

from fusmae.config.task import Task
from fusmae.data.pixels import NO_CLASS
from fusmae.errors import InputError
from fusmae.inference.map.layers import Layer, map_layers
from fusmae.inference.map.rasters import describe_raster, layer_profile
from fusmae.inference.session import Session
from fusmae.modalities import MAP_GSD_M, map_side_px
from fusmae.serving.answers import GEOTIFF, JSON, NPZ, Answer, ClassMaps, Embeddings, Quantity, TileClasses, Values
from fusmae.serving.arrays import Ground

# Largest numbers of bytes of one number in JSON, with its comma: of a position in `classes`, of a probability that is
# rounded to six digits, and of any other number.
_CLASS_BYTES, _ROUNDED_BYTES, _NUMBER_BYTES = 4, 9, 25
_FLOAT32_BYTES = 4


def choose_format(accept: str, offers: Sequence[str]) -> str:
    """The media type of `offers` that an `Accept` header likes best; of equals the first in `offers`.

    Raises:
        HTTPException: 406, none is accepted.
    """
    likes = {}
    for item in (accept or "*/*").lower().split(","):
        media_range, *parameters = (part.strip() for part in item.split(";"))
        quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        likes[media_range] = float(quality) if quality.replace(".", "", 1).isdigit() else 0.0

    def liked(offer: str) -> float:
        ranges = (offer, f"{offer.partition('/')[0]}/*", "*/*")
        return next((likes[media_range] for media_range in ranges if media_range in likes), 0.0)

    best = max(offers, key=liked)
    if not liked(best):
        raise HTTPException(406, f"Accept is {accept}; this answer can be {', '.join(offers)}.{_why_not(accept)}")
    return best


def _why_not(accept: str) -> str:
    if GEOTIFF not in accept:
        return ""
    return " Only a model of maps or of values per pixel answers GeoTIFFs, and only to /predict/geotiff."


@dataclass(frozen=True)
class Asked:
    """What a request asks for."""

    task: Task | None  # what is predicted; None for embeddings
    media_type: str  # format of the answer
    with_probabilities: bool = False  # whether maps of classes come with their probabilities

    def require_small(self, session: Session, num_tiles: int, answer_mb: float) -> None:
        """Refuse a request before it is run, if its answer may be larger than `answer_mb`.

        Raises:
            InputError: it may; the error says how many tiles can be asked for.
        """
        bytes_per_tile = self._bytes_per_tile(session)
        most = int(answer_mb * 1e6 / bytes_per_tile)
        if num_tiles > most:
            hints = [f"ask for at most {most} at once" if most else "serve with a larger --max-answer-mb"]
            if self.with_probabilities:
                hints.append("leave out the probabilities")
            if self.media_type == JSON:
                hints.append(f"ask for Accept: {NPZ}, which is smaller")
            raise InputError(
                "The answer would be too large.",
                got=f"{num_tiles} tiles of up to {bytes_per_tile / 1e6:.3g} MB each as {self.media_type}",
                expected=f"at most {answer_mb:g} MB",
                hint=", or ".join(hints),
            )

    def _bytes_per_tile(self, session: Session) -> int:
        """Largest number of bytes that a tile has in the answer, or in what the model gives."""
        is_map = self.task is not None and self.task.kind == "segmentation"
        num_pixels = map_side_px(session.inputs) ** 2 if self.task and self.task.is_dense else 1
        num_numbers = (self.task.num_outputs if self.task else session.embedding_dim) * num_pixels
        by_model = num_numbers * _FLOAT32_BYTES
        if self.media_type != JSON:
            return by_model + num_pixels * is_map
        if is_map:
            as_json = num_pixels * _CLASS_BYTES + self.with_probabilities * num_numbers * _ROUNDED_BYTES
            return max(by_model, as_json)
        return num_numbers * _NUMBER_BYTES

    def written(self, rows: NDArray[np.float32], ground: Ground | None, facts: Mapping[str, Any]) -> bytes:
        """Write the answer.

        Args:
            rows: the model's output `[B, …]`.
            ground: where the tile lies that came as GeoTIFFs; its pixels without data have no class and no value.
            facts: model, modalities and warnings.
        """
        task = self.task
        if task and task.is_dense and ground is not None:
            rows = np.where(ground.has_data, rows, np.float32(np.nan))
        answer = self._answer(rows, facts)
        if self.media_type == JSON:
            return answer.model_dump_json(exclude_none=True).encode()
        arrays = {name: value for name, value in answer if isinstance(value, np.ndarray)}
        rest = answer.model_dump_json(exclude=set(arrays), exclude_none=True)
        if self.media_type == GEOTIFF and task and ground is not None:
            layers = map_layers(task, has_probabilities=True)
            return _geotiff(layers[-1 if self.with_probabilities else 0], rows[0], ground, rest)
        file = BytesIO()
        np.savez(file, allow_pickle=False, answer=np.array(rest), **arrays)
        return file.getvalue()

    def _answer(self, rows: NDArray[np.float32], facts: Mapping[str, Any]) -> Answer:
        """The answer; rows of a map are NaN where there is no data."""
        task = self.task
        if task is None:
            return Embeddings(embeddings=rows, **facts)
        if task.value is not None:
            quantity = Quantity(name=task.value.name, unit=task.value.unit)
            return Values(kind="regression", value=quantity, values=rows[:, 0], **facts)
        classes = list(task.classes)
        if task.kind == "multilabel" or task.kind == "multiclass":
            return TileClasses(kind=task.kind, classes=classes, probabilities=rows, **facts)
        numbers = np.where(np.isnan(rows[:, 0]), NO_CLASS, rows.argmax(axis=1)).astype(np.uint8)
        probabilities = rows if self.with_probabilities else None
        return ClassMaps(kind="segmentation", classes=classes, map=numbers, probabilities=probabilities, **facts)


def _geotiff(layer: Layer, answers: NDArray[np.float32], ground: Ground, rest: str) -> bytes:
    """A tile's map, from answers `[K, h, w]`, as a GeoTIFF like those of `fusmae predict`."""
    pixels = layer.make(answers)
    height, width = pixels.shape[1:]
    place = {"crs": ground.crs, "transform": from_origin(ground.left, ground.top, MAP_GSD_M, MAP_GSD_M)}
    size = {"height": height, "width": width, "compress": "deflate"}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", **place, **size, **layer_profile(layer)) as dataset:
            dataset.write(pixels)
            describe_raster(dataset, layer, {"ANSWER": rest})
        return bytes(memory.getbuffer())
