"""How fast pairs become normalised float32 batches: fusmae's loader, torchgeo's reader, and an LMDB of safetensors.

All contenders have the same pairs, the same batch size and a random order, on two cores. Each runs either with two
workers (threads in fusmae, processes in the others) beside the main thread, or with none and torch's two threads; a
first trial shows which of both is faster for it. Every round then runs all of them one after the other, and a ratio is
taken within one round. Machines are noisy: only ratios are meaningful.

`native`: each band at its own resolution, as fusmae and the LMDB store it and as a batch goes to the device. torchgeo
can't do this: it returns everything on the 10 m grid, which is 1.9 times as many values.
`grid`: everything on the 10 m grid; for fusmae and the LMDB, the model's own preprocessing upsamples.

torchgeo does not read its reference map here, because the others don't read it either. fusmae's command line makes the
C library keep freed memory (`fusmae.runs.environment`), so fusmae's loader (`ours`) does that here too; `lmdb_tuned` is
the LMDB with the same setting, `lmdb` the LMDB without it, as its users have it.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks import command_line as cli
from benchmarks.contenders import BATCH, batches_of, finisher, prepare
from benchmarks.rounds import medians, with_range
from fusmae.data.shards import PIXELS, ShardFolder
from fusmae.data.statistics import read_statistics
from fusmae.files import write_json
from fusmae.runs.environment import keep_freed_memory

RIVALS = ("torchgeo", "lmdb", "lmdb_tuned")
SUFFIXES = {"native": "", "grid": "_on_grid"}
"""Suffixes of the ratios' names, by product."""


def measure(name: str, product: str, folder: Path, workers: int, seconds: float, share: float) -> dict[str, float]:
    """Pairs per second after the first batches, over at least `seconds`, and peak memory of all processes in MB."""
    if name in ("ours", "lmdb_tuned"):
        keep_freed_memory()
    torch.set_num_threads(1 if workers else 2)
    finish = finisher(name, product, read_statistics(folder / "statistics.json"))
    batches = batches_of(name, folder, workers, share)  # kept in a variable: its workers live as long as the iterator
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
    """Sum of the peaks of this process and its workers in MB; shared pages count in each of them."""
    import psutil

    process = psutil.Process()
    total_kb = 0
    for pid in (process.pid, *(child.pid for child in process.children(recursive=True))):
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        total_kb += int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    return total_kb / 1024


def main(
    pairs: Annotated[int, typer.Option(help="Size of the synthetic world; half of it is train.")] = 2000,
    rounds: cli.Rounds = 5,
    workers: Annotated[int, typer.Option(help="Workers of each contender, where they make it faster than none.")] = 2,
    seconds: Annotated[float, typer.Option(help="Seconds that each is measured for in a round.")] = 6.0,
    folder: cli.Folder = cli.MADE / "loader",
    out: cli.Out = cli.RESULTS / "loader.json",
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
    contenders = [(name, product) for product in SUFFIXES for name in ("ours", *RIVALS)]
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
    # In its own process, so that memory is measured for this contender alone.
    command = [sys.executable, "-m", "benchmarks.loader", "--one", f"{name}/{product}", "--folder", str(folder)]
    command += ["--workers", str(workers), "--seconds", str(seconds), "--share", str(share)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def summarise(rows: dict[str, list[dict[str, float]]], folder: Path) -> dict[str, Any]:
    """Medians over rounds; a ratio is the median of the rounds' ratios, which are listed beside it."""

    def ratios(rival: str, product: str) -> list[float]:
        ours, theirs = rows[f"ours/{product}"], rows[f"{rival}/{product}"]
        return [a["pairs_per_s"] / b["pairs_per_s"] for a, b in zip(ours, theirs, strict=True)]

    table = {
        name: {key: round(statistics.median(row[key] for row in found), 1) for key in found[0]}
        for name, found in rows.items()
    }
    size = sum((path / PIXELS).stat().st_size for path in ShardFolder(folder / "shards").paths("train"))
    return {
        "product": "normalised float32; native: bands at their own resolution (torchgeo: 10 m grid), grid: 10 m grid",
        **medians(
            {
                f"ratio_to_{rival}{suffix}": ratios(rival, product)
                for product, suffix in SUFFIXES.items()
                for rival in RIVALS
            },
            2,
        ),
        "peak_rss_mb": table["ours/native"]["peak_rss_mb"],
        "train_shards_mb": round(size / 2**20),
        "rows": table,
        "rounds": len(rows["ours/native"]),
        "batch": BATCH,
        "synthetic": True,
        "torch": torch.__version__,
        **cli.measured_on(),
    }


def as_table(result: dict[str, Any]) -> str:
    """The rows as a markdown table."""
    lines = ["| loader | pairs/s | peak RSS (MB) |", "|---|---|---|"]
    lines += [
        f"| {name} | {row['pairs_per_s']:.0f} | {row['peak_rss_mb']:.0f} |" for name, row in result["rows"].items()
    ]
    for product, suffix in SUFFIXES.items():
        shown = (f"{with_range(result, f'ratio_to_{rival}{suffix}')} × {rival}" for rival in RIVALS)
        lines.append(f"{product}: {', '.join(shown)}")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run_main(main)
