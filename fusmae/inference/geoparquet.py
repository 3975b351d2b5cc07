"""Embeddings with geometry, written as GeoParquet as they come.

https://geoparquet.org/releases/v1.1.0/: geometry as WKB, its CRS in the file's metadata, a box beside each so that
plain SQL can select by place.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusmae.files import written_whole

# Rows a row group; what waits for one bounds memory.
_GROUP_ROWS = 4096
_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Geometry:
    """What all geometries of a file have in common.

    Attributes:
        kind: of every one.
        crs: anything that pyproj understands.
    """

    kind: Literal["Polygon", "Point"]
    crs: Any


def embedding_table(columns: Mapping[str, Any], embeddings: NDArray[np.float32], shapes: Any = None) -> Any:
    """A table of rows with their embeddings.

    Args:
        columns: Arrow arrays or lists by name.
        embeddings: `[N, D]`, becomes `embedding`, a list of float32 a row.
        shapes: `[N]` of shapely's geometries, become `geometry` and `bbox`; None for rows without a place.

    Returns:
        A `pyarrow.Table`.
    """
    import pyarrow as pa

    num_rows, dim = embeddings.shape
    offsets = np.arange(num_rows + 1, dtype=np.int32) * np.int32(dim)
    vectors = pa.ListArray.from_arrays(offsets, np.ascontiguousarray(embeddings).ravel())
    return pa.table({**columns, "embedding": vectors, **({} if shapes is None else _places(shapes))})


def write_tables(path: Path, tables: Iterable[Any], geometry: Geometry | None) -> int:
    """Write tables one after another, whole or not at all.

    Args:
        path: the file.
        tables: of `embedding_table`, one at least, all with the same columns.
        geometry: None where rows have none.

    Returns:
        The number of rows.

    Raises:
        StorageError: the disk is full.
    """
    import pyarrow.parquet as pq

    num_rows = 0
    with written_whole(path) as partial:
        groups = _grouped(tables)
        first = next(groups)
        schema = first.schema.with_metadata({b"geo": _geo(geometry)} if geometry else None)
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            for table in chain([first], groups):
                num_rows += table.num_rows
                writer.write_table(table.replace_schema_metadata(schema.metadata))
    return num_rows


def _places(shapes: Any) -> dict[str, Any]:
    import pyarrow as pa
    import shapely

    sides = [pa.array(np.ascontiguousarray(side)) for side in shapely.bounds(shapes).T]
    return {
        "geometry": pa.array(list(shapely.to_wkb(shapes)), pa.binary()),
        "bbox": pa.StructArray.from_arrays(sides, names=list(_SIDES)),
    }


def _geo(geometry: Geometry) -> bytes:
    from rasterio.crs import CRS

    column = {
        "encoding": "WKB",
        "geometry_types": [geometry.kind],
        "crs": CRS.from_user_input(geometry.crs).to_dict(projjson=True),
        "covering": {"bbox": {side: ["bbox", side] for side in _SIDES}},
    }
    return json.dumps({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}).encode()


def _grouped(tables: Iterable[Any]) -> Iterator[Any]:
    import pyarrow as pa

    waiting: list[Any] = []
    num_rows = 0
    for table in tables:
        waiting.append(table)
        num_rows += table.num_rows
        if num_rows >= _GROUP_ROWS:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting, num_rows = [], 0
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()
