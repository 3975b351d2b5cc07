"""Writes embeddings with geometry as GeoParquet, table by table as they are computed.

The format (https://geoparquet.org/releases/v1.1.0/) has geometry as WKB, its CRS in the file's metadata, and a bounding
box beside each geometry, so that plain SQL can select by place.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from fusmae.files import written_whole

# Rows per row group, which also bounds the memory of rows that wait to be written.
_GROUP_ROWS = 4096
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def embedding_table(columns: Mapping[str, Any], embeddings: NDArray[np.float32], shapes: Any = None) -> Any:
    """A `pyarrow.Table` of rows with their embeddings.

    To `columns`, Arrow arrays or lists by name, the embeddings `[N, D]` add `embedding`, a list of float32 per row, and
    `shapes`, shapely geometries `[N]`, add `geometry` and `bbox`. None is for rows without a place.
    """
    num_rows, dim = embeddings.shape
    offsets = np.arange(num_rows + 1, dtype=np.int32) * np.int32(dim)
    vectors = pa.ListArray.from_arrays(offsets, np.ascontiguousarray(embeddings).ravel())
    return pa.table({**columns, "embedding": vectors, **({} if shapes is None else _places(shapes))})


def write_tables(path: Path, tables: Iterable[Any], crs: Any) -> int:
    """Write tables one after another into a file, which is written whole or not at all; returns the number of rows.

    There is at least one table, from `embedding_table`, and all have the same columns. `crs` is the CRS of the
    geometries, in any form that rasterio accepts; None if rows have none.

    Raises:
        StorageError: the disk is full.
    """
    num_rows = 0
    with written_whole(path) as partial:
        groups = _grouped(tables)
        first = next(groups)
        schema = first.schema.with_metadata({b"geo": _geo(first, crs)} if crs is not None else None)
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            for table in chain([first], groups):
                num_rows += table.num_rows
                writer.write_table(table.replace_schema_metadata(schema.metadata))
    return num_rows


def _places(shapes: Any) -> dict[str, Any]:
    sides = [pa.array(np.ascontiguousarray(side)) for side in shapely.bounds(shapes).T]
    return {
        "geometry": pa.array(list(shapely.to_wkb(shapes)), pa.binary()),
        "bbox": pa.StructArray.from_arrays(sides, names=list(_SIDES)),
    }


def _geo(table: Any, crs: Any) -> bytes:
    column = {
        "encoding": "WKB",
        "geometry_types": [shapely.from_wkb(table["geometry"][0].as_py()).geom_type],  # all are alike
        "crs": CRS.from_user_input(crs).to_dict(projjson=True),
        "covering": {"bbox": {side: ["bbox", side] for side in _SIDES}},
    }
    return json.dumps({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}).encode()


def _grouped(tables: Iterable[Any]) -> Iterator[Any]:
    """Tables joined into groups of at least `_GROUP_ROWS` rows, but for the last."""
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
