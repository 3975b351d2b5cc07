"""A command that changes which version is champion, as one Prefect task."""

import os
import sys

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from fusmae.runs.process_group import run_in_group
from fusmae.runs.provenance import FLOW_RUN


class DecisionRefusedError(RuntimeError):
    """`fusmae promote` or `fusmae rollback` ended with a non-zero exit code."""


@task(task_run_name="{command} {name}", cache_policy=NO_CACHE, persist_result=False)
def decide(command: str, name: str, *options: str) -> None:
    """Run the command; its output goes to the terminal, its decision to the ledger.

    Args:
        command: name of the command: promote or rollback.
        name: name of the registered model.
        options: options of the command line.

    Raises:
        DecisionRefusedError: the change was refused; the champion stays.
    """
    code = run_in_group(
        [sys.executable, "-m", "fusmae", command, *options, "--", name],
        environment={**os.environ, FLOW_RUN: str(flow_run.get_id() or "")},
    )
    if code:
        raise DecisionRefusedError(f"{command} {name} was refused: see the output above; the champion stays")
