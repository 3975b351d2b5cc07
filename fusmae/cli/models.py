"""The commands on registered models; `serve` answers requests with one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusmae.cli.call import begin, global_options, load_params
from fusmae.cli.options import AsJson, Device, Host, Index, ModelName, ModelVersion, Port, Shards, Verdict
from fusmae.errors import LineageError

if TYPE_CHECKING:
    from fusmae.release.lineage.compare import Answer, ModelComparison


def promote(
    name: ModelName,
    version: Annotated[
        str, typer.Option(help="Alias or number of the version to promote; by default the challenger.")
    ] = "",
    experiment: Annotated[
        str,
        typer.Option(
            help="DVC experiment, as `dvc exp show` lists it, whose parameters and results are committed first, and "
            "whose version is judged; `workspace` for the last run in this checkout."
        ),
    ] = "",
    shards: Shards = Path("data/shards"),
    index: Index = Path("data/index.parquet"),
    verdict: Verdict = Path("data/verdict.json"),
    reports: Annotated[Path, typer.Option(help="Folder for the gate's verdict.")] = Path("reports/gate"),
    force: Annotated[bool, typer.Option("--force", help="Promote even if the gate refuses; needs --reason.")] = False,
    reason: Annotated[str, typer.Option(help="Reason, and who agreed; it is kept in the ledger.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only judge; the exit code is 1 if the gate refuses.")
    ] = False,
) -> None:
    """Make a version champion if it passes the gate.

    The gate compares it with the present champion on the test split; the index names the place of each pair.

    Example: fusmae promote fusmae --experiment workspace

    Example: fusmae promote fusmae --version 4 --force --reason "agreed with A. Person: needed for the flood"
    """
    config = load_params()
    begin("promote", looks_up=name)
    from fusmae.cli.promote_version import promote_version

    text = promote_version(
        config,
        params=global_options.params,
        name=name,
        version=version,
        shards=shards,
        index=index,
        verdict=verdict,
        reports=reports,
        experiment=experiment,
        force=force,
        reason=reason,
        dry_run=dry_run,
    )
    typer.echo(text)


def rollback(
    name: ModelName,
    to: Annotated[str, typer.Option(help="Number of an earlier champion; by default the previous one.")] = "",
    reason: Annotated[str, typer.Option(help="Reason; it is kept in the ledger.")] = "",
) -> None:
    """Make an earlier champion the champion again.

    Example: fusmae rollback fusmae --reason "maps of the coast are wrong"
    """
    begin("rollback", looks_up=name)
    from fusmae.release.promotion.champion import roll_back

    typer.echo(roll_back(name, to=to, reason=reason))


def ledger(name: ModelName) -> None:
    """Show who made which version champion, when and why.

    The command fails if the ledger was changed, or if the alias was moved without an entry.

    Example: fusmae ledger fusmae
    """
    begin("ledger", looks_up=name)
    from fusmae.release.promotion.ledger import checked_ledger

    typer.echo(checked_ledger(name))


def lineage(reference: ModelVersion, as_json: AsJson = False) -> None:
    """Show what made a version: data, parameters, code, runs.

    It names the commit, parameters, hashes back to the raw archives, MLflow runs and versions of libraries.

    Example: fusmae lineage fusmae@champion
    """
    begin("lineage", looks_up=reference)
    from fusmae.release.lineage.trace import lineage_text, trace

    traced = trace(reference)
    typer.echo(json.dumps(traced.to_json(), indent=2, ensure_ascii=False) if as_json else lineage_text(traced))


_ANSWERS: dict["Answer", str] = {
    "same": "same",
    "within": "within tolerance",
    "other": "OTHER",
    "noted": "other, noted",
}
_WIDTH = 150


def reproduce(
    reference: ModelVersion,
    tolerance: Annotated[float, typer.Option(help="Largest absolute difference allowed in a score.", min=0)] = 1e-6,
    keep: Annotated[bool, typer.Option(help="Keep the checkout afterwards.")] = False,
    folder: Annotated[Path, typer.Option(help="Folder for checkouts.")] = Path(".fusmae/reproduce"),
) -> None:
    """Make a version again from its commit, and compare it.

    No result comes from a cache; every hash and score is compared. The exit code is 1 if they differ. After an
    interruption, the same command continues.

    Example: fusmae reproduce fusmae@champion --tolerance 1e-6
    """
    begin("reproduce", looks_up=reference)
    from fusmae.release.lineage.reproduce import make_again
    from fusmae.release.lineage.trace import trace

    traced = trace(reference)
    label = traced.model.label
    typer.echo(f"making {label} again from commit {traced.commit}", err=True)
    comparison = make_again(traced, folder, tolerance=tolerance, keep=keep)
    typer.echo(_comparison_text(label, comparison))
    if keep:
        typer.echo(f"kept: {folder / label.replace('/', '-')}")
    if not comparison.is_reproduced:
        raise LineageError(
            f"{label} is not reproduced: {len(comparison.other)} of {len(comparison.rows)} comparisons differ.",
            hint="with `--keep` the checkout stays, so that its files can be compared",
        )


def _comparison_text(label: str, comparison: "ModelComparison") -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table("compared", "registered", "made again", "answer")
    for row in comparison.rows:
        table.add_row(row.what, row.before, row.now, _ANSWERS[row.answer])
    asked = (
        "the same bits, because libraries, device and threads are the same"
        if comparison.expects_bits
        else "the scores only, because libraries, device or threads differ: see the first rows"
    )
    console = Console(width=_WIDTH, highlight=False)
    with console.capture() as captured:
        console.print(table)
    verdict = "reproduced" if comparison.is_reproduced else "NOT reproduced"
    return f"{captured.get()}required: {asked}; scores within {comparison.tolerance:g}\n{label}: {verdict}"


def serve(
    model: Annotated[str, typer.Option(help="NAME@ALIAS (watched), NAME/VERSION or an ONNX file.")] = "fusmae@champion",
    host: Host = "127.0.0.1",
    port: Port = 8080,
    max_batch: Annotated[int, typer.Option(min=1, help="Maximum number of tiles per request.")] = 32,
    max_requests: Annotated[
        int, typer.Option(min=1, help="Maximum number of requests in progress; further ones get 503.")
    ] = 64,
    max_body_mb: Annotated[float, typer.Option(min=0.001, help="Largest body in MB; larger ones get 413.")] = 16.0,
    max_answer_mb: Annotated[
        float, typer.Option(min=0.001, help="Largest answer in MB; requests for more, as of many maps, get 422.")
    ] = 64.0,
    poll_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two queries of the alias.")] = 30.0,
    stop_s: Annotated[int, typer.Option(min=0, help="Seconds to finish requests after a signal to stop.")] = 30,
    device: Device = "auto",
) -> None:
    """Answer requests with tiles over HTTP.

    The service follows the alias when it moves, without dropping a request. See docs/serving.md.

    Example: fusmae serve --model fusmae@champion --port 8080
    """
    begin("serve")
    from fusmae.serving.app import serve as run_service
    from fusmae.serving.limits import Limits

    run_service(model, host, port, Limits(max_batch, max_requests, max_body_mb, max_answer_mb, poll_s, stop_s), device)
