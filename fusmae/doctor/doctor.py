"""What is wrong with the stack, and the command that mends each."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from fusmae.config.params import load_config
from fusmae.doctor import machine, repository, versions
from fusmae.doctor.finding import Ask, Finding, ask_all
from fusmae.doctor.servers import check_local_store, check_prefect, check_remote_store
from fusmae.errors import ConfigError

_PATIENCE_S = 8.0
_REMOTE = ("dvc remote", "mlflow server", "prefect")


def examine_stack(*, params: Path, as_json: bool, is_strict: bool, proxied: Sequence[str] = ()) -> tuple[bool, str]:
    """Ask every question about the stack; nothing is changed.

    Args:
        params: path of params.yaml.
        as_json: whether the text is JSON, for machines.
        is_strict: whether a warning counts as an error.
        proxied: names of this machine that programs of this environment ask by a proxy.

    Returns:
        Whether nothing is wrong, and the text to print.
    """
    findings = ask_all(_checks(params, proxied), _REMOTE, _PATIENCE_S)
    statuses = Counter(finding.status for finding in findings)
    is_well = not statuses["error"] and not (is_strict and statuses["warning"])
    if as_json:
        content = {"is_well": is_well, "findings": [asdict(finding) for finding in findings]}
        return is_well, json.dumps(content, indent=2, ensure_ascii=False)
    # A table of all, then a paragraph for each that is wrong, the errors first.
    wrong = [finding for status in ("error", "warning") for finding in findings if finding.status == status]
    total = ", ".join(f"{count} {status}" for status, count in statuses.items())
    return is_well, "\n\n".join([_table(findings), *map(_paragraph, wrong), total])


def _checks(params: Path, proxied: Sequence[str]) -> dict[str, Ask]:
    try:
        runtime = load_config(params).runtime
        accelerator, num_workers = runtime.accelerator, runtime.num_workers
    except ConfigError:  # which `check_params` reports
        accelerator, num_workers = "auto", 0
    pools = ("cpu", "gpu") if machine.gpu_devices() else ("cpu",)
    return {
        "python": versions.check_python,
        "packages": versions.check_packages,
        "imports": versions.check_imports,
        "params": partial(repository.check_params, params),
        "git": repository.check_git,
        "proxies": partial(machine.check_proxies, proxied),
        "dvc project": repository.check_project,
        "dvc cache": repository.check_cache,
        "dvc locks": repository.check_locks,
        "dvc remote": repository.check_remote,
        "mlflow": check_local_store,
        "mlflow server": check_remote_store,
        "prefect": partial(check_prefect, pools),
        "disk": machine.check_disk,
        "shared memory": partial(machine.check_shared_memory, num_workers),
        "open files": machine.check_open_files,
        "cores": machine.check_cores,
        "memory": machine.check_memory,
        "gpu": partial(machine.check_gpu, accelerator),
    }


def _table(findings: Sequence[Finding]) -> str:
    table = Table("looked at", "answer", "found", box=box.SIMPLE)
    for finding in findings:
        table.add_row(finding.name, finding.status, finding.found)
    console = Console(width=120, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get().strip("\n")


def _paragraph(finding: Finding) -> str:
    return (
        f"{finding.status}: {finding.name}\n  got:      {finding.found}\n"
        f"  expected: {finding.expected}\n  next:     {finding.mend}"
    )
