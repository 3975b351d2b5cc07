"""How fast pairs become normalised float32 batches: our loader, torchgeo's reader, LMDB of safetensors.

The same pairs, the same batch and a random order for each, on two cores: either two workers (processes; ours are
threads) beside the main thread, or none and torch's two threads, whichever is the faster for it in a first trial. Every
round then runs all of them one after the other, and a ratio is that of one round. Machines are noisy: only ratios mean
something.

`native`: each band at its own resolution, as ours and the LMDB keep it and as a batch travels to the device; torchgeo
can't, it gives everything on the 10 m grid: 1.9 times the numbers.
`grid`: everything on the 10 m grid, upsampled by the model's own preprocessing for ours and the LMDB.

torchgeo is spared its reference map, which the others don't read.
"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fusmae.data.cluster import open_cluster
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.data.randomness import Purpose, generator
from fusmae.data.shard_writer import write_shards
from fusmae.data.shards import PIXELS, Origin, shard_paths
from fusmae.data.statistics import measure_statistics, read_statistics, write_statistics
from fusmae.files import write_json
from fusmae.modalities import Statistics, modality_inputs
from fusmae.models.preprocess import Preprocess
from fusmae.provenance import git_state
from fusmae.sources.bigearthnet.bands import MODALITIES, PATCH_M
from fusmae.sources.synthetic.source import SyntheticSource

INPUTS = modality_inputs(MODALITIES, PATCH_M)
BATCH = 64
SEED = 0
RIVALS = ("torchgeo", "lmdb")
PRODUCTS = ("native", "grid")

Pixels = dict[str, Tensor]


def prepare(folder: Path, num_pairs: int) -> None:
    """The same pairs as GeoTIFFs, as shards and as an LMDB of safetensors."""
    import lmdb
    from safetensors.numpy import save

    # Finished shards would be kept; the generator may be another by now.
    shutil.rmtree(folder / "shards", ignore_errors=True)
    source, raw = SyntheticSource(num_pairs=num_pairs, seed=SEED), folder / "raw"
    source.fetch(folder / "downloads", raw)
    pairs = source.pairs(raw)
    with open_cluster("", 0) as cluster:
        write_shards(
            pairs,
            partial(source.read, raw.absolute()),
            (folder / "shards").absolute(),
            inputs=INPUTS,
            classes=source.classes,
            shard_pairs=1000,
            origin=Origin(source.name, source.licence, is_synthetic=True),
            run=cluster.map,
        )
        write_statistics(folder / "statistics.json", measure_statistics(folder / "shards", run=cluster.map))
    train = [pair for pair in pairs if pair.split == "train"]
    shutil.rmtree(folder / "lmdb", ignore_errors=True)
    with lmdb.open(str(folder / "lmdb"), map_size=2**40) as store, store.begin(write=True) as transaction:
        for pair in train:
            bands = source.read(raw, pair)
            for modality in MODALITIES:
                side = {band: bands[band] for band in MODALITIES[modality].bands}
                transaction.put(f"{pair.key}/{modality}".encode(), save(side))
    write_json(folder / "lmdb" / "keys.json", [pair.key for pair in train])


def standardise(pixels: Pixels, known: Statistics) -> Pixels:
    """Each array at its native resolution to zero mean and unit deviation, float32."""
    found = {}
    for item in INPUTS:
        bands = [known[item.modality][band] for band in item.bands]
        mean = torch.tensor([band.mean for band in bands])[:, None, None]
        std = torch.tensor([band.std for band in bands])[:, None, None]
        found[item.name] = pixels[item.name].float().sub_(mean).div_(std)
    return found


class LmdbPairs(Dataset[Pixels]):
    """Pairs out of an LMDB, one safetensors value a side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = json.loads((folder / "keys.json").read_text(encoding="utf-8"))
        self.store: Any = None

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Pixels:
        import lmdb
        from safetensors.numpy import load

        if self.store is None:  # an environment must not cross a fork
            self.store = lmdb.open(str(self.folder), readonly=True, lock=False, readahead=False)
        with self.store.begin() as transaction:
            bands: dict[str, Any] = {}
            for modality in MODALITIES:
                bands |= load(transaction.get(f"{self.keys[index]}/{modality}".encode()))
        return {item.name: torch.from_numpy(np.stack([bands[band] for band in item.bands])) for item in INPUTS}


def order_of(num_pairs: int) -> list[int]:
    """The one random order for all."""
    return [int(index) for index in generator(SEED, Purpose.ORDER, 0).permutation(num_pairs)]


def batches_of(name: str, folder: Path, workers: int, share: float) -> Iterator[Any]:
    """A contender's batches without end, pixels in physical units; its workers live on from epoch to epoch."""
    if name == "ours":
        data = PairDataModule(
            folder / "shards", batch_size=BATCH, draws=Draws(SEED, ("s1", "s2"), 225), num_workers=workers
        )
        loader: Any = data.train_dataloader()
        loader.sampler.num_pairs = round(loader.sampler.num_pairs * share)
        while True:
            yield from (batch.pixels for batch in loader)
    if name == "lmdb":
        pairs: Any = LmdbPairs(folder / "lmdb")
    else:
        from torchgeo.datasets import BigEarthNetV2

        class WithoutMap(BigEarthNetV2):  # type: ignore[misc]
            def _load_map(self, index: int) -> Tensor:
                return torch.zeros(1)

        pairs = WithoutMap(str(folder / "raw"), split="train", bands="all")
    sampler: Any = order_of(len(pairs))
    loader = DataLoader(
        pairs, BATCH, sampler=sampler, num_workers=workers, drop_last=True, persistent_workers=workers > 0
    )
    while True:
        yield from loader


def finisher(name: str, product: str, known: Statistics) -> Callable[[Any], Any]:
    """What makes a contender's batch a normalised float32 one."""
    if name == "torchgeo":
        order = {
            "image_s1": ("s1", ("VH", "VV")),
            "image_s2": ("s2", sorted(MODALITIES["s2"].bands, key=_product_order)),
        }
        moments = {
            key: tuple(
                torch.tensor([getattr(known[modality][band], moment) for band in bands])[:, None, None]
                for moment in ("mean", "std")
            )
            for key, (modality, bands) in order.items()
        }
        return lambda batch: {key: batch[key].sub_(mean).div_(std) for key, (mean, std) in moments.items()}
    return partial(standardise, known=known) if product == "native" else Preprocess(INPUTS, known)


def _product_order(band: str) -> float:
    return 8.5 if band == "B8A" else float(band[1:])


def measure(name: str, product: str, folder: Path, workers: int, seconds: float, share: float) -> dict[str, float]:
    """Pairs a second after the first batches, over at least `seconds`, and the memory that all processes took."""
    torch.set_num_threads(1 if workers else 2)
    finish = finisher(name, product, read_statistics(folder / "statistics.json"))
    batches = batches_of(name, folder, workers, share)  # held: its workers live as long as it does
    with torch.inference_mode():
        count, start = 0, 0.0
        for number, batch in enumerate(batches):
            finish(batch)
            if number < 2 * workers + 1:  # until the workers have started and their queues are full
                start = time.perf_counter()
                continue
            count += BATCH
            if (took := time.perf_counter() - start) > seconds:
                break
    return {"pairs_per_s": count / took, "peak_rss_mb": _peak_rss_mb(), "workers": workers}


def _peak_rss_mb() -> float:
    """Peaks of this process and of its workers, added: pages that they share count in each."""
    import psutil

    process = psutil.Process()
    total_kb = 0
    for pid in (process.pid, *(child.pid for child in process.children(recursive=True))):
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        total_kb += int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    return total_kb / 1024


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def main(
    pairs: Annotated[int, typer.Option(help="Size of the synthetic world; half of it is train.")] = 2000,
    rounds: Annotated[int, typer.Option(help="Rounds of all contenders.")] = 5,
    workers: Annotated[int, typer.Option(help="Workers of each contender, where they make it faster than none.")] = 2,
    seconds: Annotated[float, typer.Option(help="Seconds that each is measured for in a round.")] = 6.0,
    folder: Annotated[Path, typer.Option(help="Where the pairs are made and kept.")] = Path(
        ".fusmae/benchmarks/loader"
    ),
    out: Annotated[Path, typer.Option(help="JSON to write.")] = Path("benchmarks/results/loader.json"),
    one: Annotated[str, typer.Option(hidden=True)] = "",
    share: Annotated[float, typer.Option(hidden=True)] = 1.0,
) -> None:
    """Compare the loaders on the same pairs in one run.

    Example: python -m benchmarks.loader --pairs 2000 --rounds 5
    """
    if one:
        name, product = one.split("/")
        typer.echo(json.dumps(measure(name, product, folder, workers, seconds, share)))
        return
    prepare(folder, pairs)
    contenders = [(name, product) for product in PRODUCTS for name in ("ours", *RIVALS)]
    best: dict[tuple[str, str], int] = {}
    for name, product in contenders:
        tried = {count: _in_own_process(name, product, folder, count, seconds) for count in (0, workers)}
        best[name, product] = max(tried, key=lambda count: tried[count]["pairs_per_s"])
    rows: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for name, product in contenders:
            found = _in_own_process(name, product, folder, best[name, product], seconds)
            rows.setdefault(f"{name}/{product}", []).append(found)
    rows["ours/native, a quarter of the pairs"] = [
        _in_own_process("ours", "native", folder, best["ours", "native"], seconds, 0.25)
    ]
    result = summarise(rows, folder)
    write_json(out, result)
    typer.echo(as_table(result))


def _in_own_process(
    name: str, product: str, folder: Path, workers: int, seconds: float, share: float = 1.0
) -> dict[str, float]:
    # Its own, so that its memory is its own.
    command = [sys.executable, "-m", "benchmarks.loader", "--one", f"{name}/{product}", "--folder", str(folder)]
    command += ["--workers", str(workers), "--seconds", str(seconds), "--share", str(share)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def summarise(rows: dict[str, list[dict[str, float]]], folder: Path) -> dict[str, Any]:
    """Medians over rounds; a ratio is the median of the rounds' ratios."""

    def ratio(rival: str, product: str) -> float:
        ours, theirs = rows[f"ours/{product}"], rows[f"{rival}/{product}"]
        return round(
            statistics.median(a["pairs_per_s"] / b["pairs_per_s"] for a, b in zip(ours, theirs, strict=True)), 2
        )

    table = {
        name: {key: round(statistics.median(row[key] for row in found), 1) for key in found[0]}
        for name, found in rows.items()
    }
    size = sum((path / PIXELS).stat().st_size for path in shard_paths(folder / "shards", "train"))
    return {
        "product": "normalised float32; native: bands at their own resolution (torchgeo: 10 m grid), grid: 10 m grid",
        "ratio_to_torchgeo": ratio("torchgeo", "native"),
        "ratio_to_lmdb": ratio("lmdb", "native"),
        "ratio_to_torchgeo_on_grid": ratio("torchgeo", "grid"),
        "ratio_to_lmdb_on_grid": ratio("lmdb", "grid"),
        "peak_rss_mb": table["ours/native"]["peak_rss_mb"],
        "train_shards_mb": round(size / 2**20),
        "rows": table,
        "rounds": len(rows["ours/native"]),
        "batch": BATCH,
        "synthetic": True,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "torch": torch.__version__,
        **git_state(),
    }


def as_table(result: dict[str, Any]) -> str:
    """The rows as people read them."""
    lines = ["| loader | pairs/s | peak RSS (MB) |", "|---|---|---|"]
    lines += [
        f"| {name} | {row['pairs_per_s']:.0f} | {row['peak_rss_mb']:.0f} |" for name, row in result["rows"].items()
    ]
    for product, suffix in (("native", ""), ("grid", "_on_grid")):
        lines.append(
            f"{product}: {result['ratio_to_torchgeo' + suffix]} × torchgeo, {result['ratio_to_lmdb' + suffix]} × LMDB"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    app()
