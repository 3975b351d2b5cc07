"""The commands on the project as a whole: bring it up to date, show its results, check the stack."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from fusmae.cli.call import begin, global_options, load_params
from fusmae.cli.options import AsJson, Host, Port, Raw, Receipt
from fusmae.errors import FusmaeError, RegistryError, SourceError
from fusmae.runs.environment import sent_to_proxy
from fusmae.runs.process_group import own_programs_first, run_in_group

CHANGED = 3
"""Exit code of `--check` if files have changed."""


def summary(reports: Annotated[Path, typer.Option(help="Folder of reports.")] = Path("reports")) -> None:
    """Show what the last run made and where to look at it.

    Example: fusmae summary
    """
    begin("summary")
    table, version = reports / "evaluate" / "table.md", reports / "register" / "version.json"
    encoder = reports / "register-encoder" / "version.json"
    if not (table.exists() and version.exists()):
        raise FusmaeError(f"There are no finished reports in {reports}.", hint="make pipeline")
    versions = [json.loads(path.read_text(encoding="utf-8")) for path in (version, encoder) if path.exists()]
    pictures = sorted((reports / "reconstructions").glob("*.png"))
    lines = [
        table.read_text(encoding="utf-8"),
        f"metrics table   {table}",
        f"figures         {reports / 'evaluate' / 'figures'}   (or: dvc plots show)",
        f"reconstructions {reports / 'reconstructions'}/  ({len(pictures)} pictures)",
        f"model cards     {reports / 'register' / 'card.md'}, {encoder.parent / 'card.md'}",
        *(f"registered      models:/{made['name']}@{made['alias']}, version {made['version']}" for made in versions),
        "MLflow UI       make ui, then open http://127.0.0.1:5000",
    ]
    typer.echo("\n".join(lines))


def update(
    check: Annotated[
        bool, typer.Option("--check", help="Only compare: the exit code is 3 if files have changed.")
    ] = False,
    raw: Raw = Path("data/raw"),
    receipt: Receipt = Path("data/raw.json"),
) -> None:
    """Find changed raw files, then run `dvc repro`.

    Files that you added, removed or changed are found by their names, sizes and times; only files in which these differ
    are read. Then all stages that depend on them run.

    Example: fusmae update
    """
    data = load_params().data
    source = data.source
    begin("update")
    from fusmae.config.source import PROVIDED_BY_USER
    from fusmae.sources.receipt import is_as_received

    folder = raw / source.name
    try:
        is_same = is_as_received(data, folder, receipt)
    except SourceError:  # stage fetch states what is wrong
        is_same = False
    typer.echo(f"{folder} is {'as' if is_same else 'not as'} {receipt} states", err=True)
    if check:
        raise typer.Exit(0 if is_same else CHANGED)
    # Fetched files are too many to be compared with the receipt: the stages that read them run again.
    anew = ["fetch"] if not is_same else ["index", "shard"] if source.name not in PROVIDED_BY_USER else []
    code = _dvc("repro", "--force", "--single-item", *anew) if anew and receipt.exists() else 0
    raise typer.Exit(code or _dvc("repro"))


def _dvc(*arguments: str) -> int:
    command = [str(Path(sys.executable).with_name("dvc")), *arguments]
    return run_in_group(command, environment={**os.environ, "PATH": own_programs_first()})


def doctor(
    as_json: AsJson = False,
    strict: Annotated[bool, typer.Option("--strict", help="Count a warning as an error.")] = False,
) -> None:
    """Check the stack; print the command that mends a fault.

    It looks at versions, git, DVC, MLflow, Prefect, disk, memory and GPU, takes seconds and changes nothing. Exit code
    0: nothing is wrong; 1: something is.

    Example: fusmae doctor
    """
    proxied = sent_to_proxy()  # asked before this process excludes its machine
    begin("doctor")
    from fusmae.doctor.doctor import examine_stack

    is_well, text = examine_stack(params=global_options.params, as_json=as_json, is_strict=strict, proxied=proxied)
    typer.echo(text)
    if not is_well:
        raise typer.Exit(1)


def ui(host: Host = "127.0.0.1", port: Port = 5000) -> None:
    """Show runs and registered models in a browser.

    This is MLflow's web interface on the project's store. If the store is a tracking server, the command prints the
    address of that server's own interface.

    Example: fusmae ui
    """
    begin("ui")
    from fusmae.runs.mlflow_address import shown_uri, tracking_uri
    from fusmae.runs.mlflow_store import connect, packages_folder

    connect()
    uri = tracking_uri()
    if uri.startswith(("http://", "https://")):
        typer.echo(f"MLflow's interface is at {shown_uri()}")
        return
    if "%" in (packages := packages_folder()):
        raise RegistryError(
            "MLflow's web server does not start from an environment whose path contains %.",
            got=packages,
            expected="a path without %",
            hint=f"ln -sfn '{Path(packages).parent}' /tmp/packages && PYTHONPATH=/tmp/packages fusmae ui",
        )
    # Not on the command line: a database's address may contain a password.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", "--host", host, "--port", str(port)])  # noqa: S606
