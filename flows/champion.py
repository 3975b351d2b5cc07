"""Flows that change which version is champion: `python -m flows.champion promote`, or `rollback`."""

import os
import sys
from argparse import ArgumentParser

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows.events import emit_champion
from flows.notify import tell
from fusmae.runs.process_group import run_in_group
from fusmae.runs.provenance import FLOW_RUN


@flow(on_failure=[tell], on_crashed=[tell])
def promote(name: str = "fusmae", version: str = "challenger", force: bool = False, reason: str = "") -> None:
    """Judge a version against the champion, and make it champion if it passes the gate.

    Args:
        name: registered model.
        version: alias or number of the version to promote.
        force: promote even if the gate refuses; needs a reason.
        reason: why, and who agreed; stays in the ledger permanently.
    """
    decide("promote", name, f"--version={version}", f"--reason={reason}", *(["--force"] if force else []))
    emit_champion(name)


@flow(on_failure=[tell], on_crashed=[tell])
def rollback(name: str = "fusmae", to: str = "", reason: str = "") -> None:
    """Make an earlier champion champion again.

    Args:
        name: registered model.
        to: number of an earlier champion; by default the previous one.
        reason: why; stays in the ledger permanently.
    """
    decide("rollback", name, f"--to={to}", f"--reason={reason}")
    emit_champion(name)


@task(task_run_name="{command} {name}", cache_policy=NO_CACHE, persist_result=False)
def decide(command: str, name: str, *options: str) -> None:
    """Run `fusmae promote` or `fusmae rollback`; its output goes to the terminal, its decision to the ledger.

    Raises:
        RuntimeError: the change was refused; the champion stays.
    """
    fusmae = [sys.executable, "-m", "fusmae", command, *options, "--", name]
    if run_in_group(fusmae, environment={**os.environ, FLOW_RUN: str(flow_run.get_id() or "")}):
        raise RuntimeError(f"{command} {name} was refused: see the output above; the champion stays")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("flow", choices=["promote", "rollback"])
    (promote if parser.parse_args().flow == "promote" else rollback)()
