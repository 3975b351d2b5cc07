"""Does search find what is alike? For each test pair, DuckDB finds the training pair with the most similar embedding.

The benchmark measures how often the two have a class in common, and how often a training pair that is drawn at random
has one in common with the test pair. Each graph is an encoder that `fusmae export` wrote; give one per seed.

    python -m benchmarks.embedding_search pretrained=models/encoder/export/model.onnx random=random/model.onnx
"""

from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import duckdb
import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks import command_line as cli
from fusmae.cli.scene_files import SceneFiles
from fusmae.cli.write_embeddings import write_embeddings
from fusmae.data.index import Split
from fusmae.data.shards import ShardReader
from fusmae.evaluation.resampling import place_resamples, read_places
from fusmae.files import write_json

RESAMPLES = 1000
# The pairs of 'test.parquet' with the labels of the nearest pair of 'train.parquet', as docs/embeddings.md does it.
NEAREST = """
SELECT test.key,
       len(list_intersect(test.labels, arg_max(train.labels, list_cosine_similarity(test.embedding, train.embedding)))),
       avg(CAST(len(list_intersect(test.labels, train.labels)) > 0 AS DOUBLE))
FROM 'FOLDER/test.parquet' AS test
JOIN 'FOLDER/train.parquet' AS train ON train.model_sha256 = test.model_sha256 AND train.modalities = test.modalities
GROUP BY test.key, test.labels
"""


def answers(graph: Path, shards: Path) -> tuple[dict[str, float], dict[str, float]]:
    """By test pair: 1 if its nearest training pair has a class in common, and the share of training pairs that do."""
    splits: tuple[Split, Split] = ("train", "test")
    with TemporaryDirectory() as folder:
        for split in splits:
            write_embeddings(
                model=str(graph),
                files=SceneFiles(),
                out=Path(folder) / f"{split}.parquet",
                stride=None,
                is_checked=True,
                shards=shards,
                split=split,
                index=None,
            )
        rows = duckdb.sql(NEAREST.replace("FOLDER", folder)).fetchall()
    return {key: float(common > 0) for key, common, _ in rows}, {key: chance for key, _, chance in rows}


def summary(values: NDArray[np.float64], weights: NDArray[np.int32]) -> dict[str, Any]:
    """Mean over pairs with the 95 % interval of a bootstrap over places; values are `[N]`, weights `[draws, N]`."""
    draws = weights @ values / weights.sum(axis=1)
    return {"mean": float(values.mean()), "interval": np.quantile(draws, [0.025, 0.975]).tolist()}


def main(
    graphs: Annotated[list[str], typer.Argument(help="LABEL=PATH of an encoder's graph; all seeds have one label.")],
    shards: Annotated[Path, typer.Option(help="Shards of the data set.")] = Path("data/shards"),
    index: Annotated[Path, typer.Option(help="Index that the shards were made from")] = Path("data/index.parquet"),
    out: cli.Out = cli.RESULTS / "embedding_search.json",
) -> None:
    """Print and write the shares."""
    keys = ShardReader(shards, "test").keys
    places = read_places(index, keys)
    weights = place_resamples(places, RESAMPLES, 0)
    found, chance = defaultdict[str, list[NDArray[np.float64]]](list), np.zeros(len(keys))
    for graph in graphs:
        label, _, path = graph.partition("=")
        hits, by_chance = answers(Path(path), shards)
        found[label].append(np.array([hits[key] for key in keys]))
        chance = np.array([by_chance[key] for key in keys])
    report: dict[str, Any] = {
        **cli.measured_on(),
        "data": ShardReader(shards, "test").origin.described,
        "num_test_pairs": len(keys),
        "num_places": len(set(places)),
        "chance": summary(chance, weights),
        "rows": {
            label: {
                "num_seeds": len(rows),
                "by_seed": [float(row.mean()) for row in rows],
                "share": summary(np.mean(rows, axis=0), weights),
                "above_chance": summary(np.mean(rows, axis=0) - chance, weights),
            }
            for label, rows in found.items()
        },
    }
    write_json(out, report)
    for label, row in report["rows"].items():
        print(label, row["share"], "above chance:", row["above_chance"])


if __name__ == "__main__":
    cli.run_main(main)
