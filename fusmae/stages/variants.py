"""Stage variants: make the exported graph at lower precision, and keep those that are neither worse nor slower."""

import os
from pathlib import Path

from fusmae.config.release import VariantsConfig
from fusmae.data.shards import ShardReader
from fusmae.evaluation.resampling import read_places
from fusmae.files import file_sha256, write_json, write_text, written_whole
from fusmae.inference.session import Session
from fusmae.release.export.variant_comparison import (
    Variant,
    as_report,
    as_tables,
    compare_latencies,
    compare_scores,
    is_finite_at_extremes,
)
from fusmae.release.export.variants import make_variants


def variants(
    section: VariantsConfig, *, seed: int, exported: Path, shards: Path, index: Path, out: Path, report: Path
) -> None:
    """Make variants of `exported/model.onnx`; `out` gets the accepted ones, `report` the measurements of all."""
    source = exported / "model.onnx"
    train, test = ShardReader(shards, "train"), ShardReader(shards, "test")
    places = read_places(index, test.keys)
    num_threads = os.cpu_count() or 1
    with written_whole(out) as partial:
        partial.mkdir()
        made = make_variants(source, train, partial, num_pairs=section.calibration_pairs, seed=seed)
        files = {"fp32": source, **made}
        sessions = {precision: Session(path, num_threads) for precision, path in files.items()}
        batch_sizes = sorted({1, section.batch_size})
        latencies = compare_latencies(list(sessions.values()), test, batch_sizes=batch_sizes, rounds=section.rounds)
        intervals = {"resamples": section.bootstrap_resamples, "confidence": section.confidence}
        draws = {"places": places, "seed": seed, **intervals}
        measured = [
            Variant(
                precision,
                file_sha256(path),
                path.stat().st_size / 2**20,
                latency,
                compare_scores(sessions[precision], sessions["fp32"], test, batch_size=section.batch_size, draws=draws)
                if precision in made
                else {},
                is_finite_at_extremes(sessions[precision]),
            )
            for (precision, path), latency in zip(files.items(), latencies, strict=True)
        ]
        found = as_report(
            measured,
            num_test_pairs=len(test),
            num_test_places=len(set(places)),
            num_threads=num_threads,
            max_loss=section.max_loss,
            warning=test.origin.warning,
        )
        rows = found["variants"]
        accepted = {name: rows[name]["sha256"] for name in made if rows[name]["is_accepted"]}
        for precision in made.keys() - accepted.keys():
            made[precision].unlink()
        write_json(partial / "accepted.json", {"variant_of": measured[0].sha256, "accepted": accepted})
    write_json(report / "report.json", found)
    write_text(report / "table.md", as_tables(found))
