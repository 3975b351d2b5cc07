"""The commands on registered models; `serve` answers requests with one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusmae.cli.call import begin, global_options, load_params
from fusmae.cli.options import AsJson, Host, ModelName, ModelVersion, Port
from fusmae.errors import LineageError

if TYPE_CHECKING:
    from fusmae.release.lineage.compare import Answer, ModelComparison


def promote(
    name: ModelName,
    version: Annotated[
        str, typer.Option(help="Alias or number of the version that shall become champion; by default the challenger.")
    ] = "",
    experiment: Annotated[
        str,
        typer.Option(
            help="DVC experiment whose parameters and results are committed first, as `dvc exp show` names it; "
            "`workspace` for what was run last here. Its version is judged."
        ),
    ] = "",
    shards: Annotated[Path, typer.Option(help="Shards whose test split both are judged on.")] = Path("data/shards"),
    index: Annotated[Path, typer.Option(help="Index, which says what is of one place.")] = Path("data/index.parquet"),
    verdict: Annotated[Path, typer.Option(help="The examination's, which names the shards.")] = Path(
        "data/verdict.json"
    ),
    reports: Annotated[Path, typer.Option(help="Where the gate's verdict goes.")] = Path("reports/gate"),
    force: Annotated[bool, typer.Option("--force", help="Go on where the gate says no; needs --reason.")] = False,
    reason: Annotated[str, typer.Option(help="Why, and who agreed; stands in the ledger for good.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only judge; fails where the gate says no.")] = False,
) -> None:
    """Make a version champion if the gate lets it pass.

    The gate judges it against the champion of now, on the test split.

    Example: fusmae promote fusmae --experiment workspace

    Example: fusmae promote fusmae --version 4 --force --reason "agreed with A. Person: needed for the flood"
    """
    config = load_params()
    begin("promote", looks_up=name)
    from fusmae.cli.promote_version import Evidence, promote_version

    text = promote_version(
        config,
        params=global_options.params,
        name=name,
        version=version,
        evidence=Evidence(shards, index, verdict),
        reports=reports,
        experiment=experiment,
        registered=Path("reports/register/version.json"),  # as dvc.yaml has it
        force=force,
        reason=reason,
        dry_run=dry_run,
    )
    typer.echo(text)


def rollback(
    name: ModelName,
    to: Annotated[str, typer.Option(help="Number of an earlier champion; by default the one before.")] = "",
    reason: Annotated[str, typer.Option(help="Why; stands in the ledger for good.")] = "",
) -> None:
    """Make the version champion again that was it before.

    Example: fusmae rollback fusmae --reason "maps of the coast are wrong"
    """
    begin("rollback", looks_up=name)
    from fusmae.release.promotion.champion import roll_back

    typer.echo(roll_back(name, to=to, reason=reason))


def ledger(name: ModelName) -> None:
    """Show who made which version champion, when and why.

    The command fails if somebody changed the ledger, or moved the alias past it.

    Example: fusmae ledger fusmae
    """
    begin("ledger", looks_up=name)
    from fusmae.release.promotion.ledger import checked_ledger

    typer.echo(checked_ledger(name))


def lineage(reference: ModelVersion, as_json: AsJson = False) -> None:
    """Say what made a version: data, parameters, code, runs.

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
    tolerance: Annotated[float, typer.Option(help="Largest difference of a score, absolute.", min=0)] = 1e-6,
    keep: Annotated[bool, typer.Option(help="Leave the checkout when all is done.")] = False,
    folder: Annotated[Path, typer.Option(help="Where checkouts go.")] = Path(".fusmae/reproduce"),
) -> None:
    """Make a version again from its commit, and compare it.

    Nothing comes from a cache; every hash and score is compared. Exit code 1 if it is not the same. Cut off, the same
    command goes on.

    Example: fusmae reproduce fusmae@champion --tolerance 1e-6
    """
    begin("reproduce", looks_up=reference)
    from fusmae.release.lineage.reproduce import RawData, make_again
    from fusmae.release.lineage.trace import trace

    traced = trace(reference)
    label = traced.model.label
    typer.echo(f"making {label} again from commit {traced.commit}", err=True)
    # As dvc.yaml has them: the checkout finds them at the same places.
    raw_data = RawData(Path("data/downloads"), Path("data/raw"), Path("data/raw.json"))
    comparison = make_again(traced, folder, raw_data, tolerance=tolerance, keep=keep)
    typer.echo(_comparison_text(label, comparison))
    if keep:
        typer.echo(f"kept: {folder / label.replace('/', '-')}")
    if not comparison.is_reproduced:
        raise LineageError(
            f"{label} is not reproduced: {len(comparison.other)} of {len(comparison.rows)} comparisons differ.",
            hint="`--keep` leaves the checkout to look into",
        )


def _comparison_text(label: str, comparison: "ModelComparison") -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table("compared", "registered", "made again", "answer")
    for row in comparison.rows:
        table.add_row(row.what, row.before, row.now, _ANSWERS[row.answer])
    asked = (
        "the same bits, for libraries, device and threads are the same"
        if comparison.expects_bits
        else "the scores only, for libraries, device or threads are others: see the first rows"
    )
    console = Console(width=_WIDTH, highlight=False)
    with console.capture() as captured:
        console.print(table)
    verdict = "reproduced" if comparison.is_reproduced else "NOT reproduced"
    return f"{captured.get()}asked for: {asked}; scores within {comparison.tolerance:g}\n{label}: {verdict}"


def serve(
    model: Annotated[str, typer.Option(help="NAME@ALIAS (watched), NAME/VERSION or an ONNX file.")] = "fusmae@champion",
    host: Host = "127.0.0.1",
    port: Port = 8080,
    max_batch: Annotated[int, typer.Option(min=1, help="Maximum number of tiles per request.")] = 32,
    max_requests: Annotated[
        int, typer.Option(min=1, help="Maximum number of requests in progress; further ones get 503.")
    ] = 64,
    max_body_mb: Annotated[float, typer.Option(min=0.001, help="Largest body in MB; larger ones get 413.")] = 16.0,
    poll_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two queries of the alias.")] = 30.0,
    stop_s: Annotated[int, typer.Option(min=0, help="Seconds to finish requests after a signal to stop.")] = 30,
) -> None:
    """Answer requests with tiles over HTTP.

    The service follows the alias when it moves, without dropping a request. See docs/serving.md.

    Example: fusmae serve --model fusmae@champion --port 8080
    """
    begin("serve")
    from fusmae.serving.limits import Limits
    from fusmae.serving.serve import serve as run_service

    run_service(model, host, port, Limits(max_batch, max_requests, max_body_mb, poll_s, stop_s))
