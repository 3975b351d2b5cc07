"""What is wrong with the stack, and the command that mends each."""

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from fusmae.doctor.dvc_cache import check_cache, check_remote
from fusmae.doctor.finding import DoctorCheck, Finding, Status, ask_all
from fusmae.doctor.machine import (
    check_cores,
    check_disk,
    check_gpu,
    check_memory,
    check_open_files,
    check_proxies,
    check_shared_memory,
    gpu_devices,
)
from fusmae.doctor.repository import check_git, check_locks, check_params, check_project, config_or_none
from fusmae.doctor.servers import check_local_store, check_prefect, check_remote_store
from fusmae.doctor.versions import check_imports, check_packages, check_python

_PATIENCE_S = 8.0
_WIDTH = 120
_WRONG: tuple[Status, ...] = ("error", "warning")


def examine_stack(*, params: Path, as_json: bool, is_strict: bool, proxied: Sequence[str] = ()) -> tuple[bool, str]:
    """Ask every question about the stack; nothing is changed.

    Args:
        params: the parameters.
        as_json: whether the text is JSON, for machines.
        is_strict: whether a warning counts as an error.
        proxied: names of this machine that programs of this environment ask by a proxy.

    Returns:
        Whether nothing is wrong, and the text to print.
    """
    findings = ask_all(_checks(params, proxied), _PATIENCE_S)
    statuses = Counter(finding.status for finding in findings)
    is_well = not statuses["error"] and not (is_strict and statuses["warning"])
    if as_json:
        content = {"is_well": is_well, "findings": [finding.to_json() for finding in findings]}
        return is_well, json.dumps(content, indent=2, ensure_ascii=False)
    return is_well, _text(findings, statuses)


def _checks(params: Path, proxied: Sequence[str] = ()) -> list[DoctorCheck]:
    config = config_or_none(params)
    accelerator = config.runtime.accelerator if config else "auto"
    num_workers = config.runtime.num_workers if config else 0
    pools = ("cpu", "gpu") if gpu_devices() else ("cpu",)
    return [
        DoctorCheck("python", check_python),
        DoctorCheck("packages", check_packages),
        DoctorCheck("imports", check_imports),
        DoctorCheck("params", partial(check_params, params)),
        DoctorCheck("git", check_git),
        DoctorCheck("proxies", partial(check_proxies, proxied)),
        DoctorCheck("dvc project", check_project),
        DoctorCheck("dvc cache", check_cache),
        DoctorCheck("dvc locks", check_locks),
        DoctorCheck("dvc remote", check_remote, is_remote=True),
        DoctorCheck("mlflow", check_local_store),
        DoctorCheck("mlflow server", check_remote_store, is_remote=True),
        DoctorCheck("prefect", partial(check_prefect, pools), is_remote=True),
        DoctorCheck("disk", check_disk),
        DoctorCheck("shared memory", partial(check_shared_memory, num_workers)),
        DoctorCheck("open files", check_open_files),
        DoctorCheck("cores", check_cores),
        DoctorCheck("memory", check_memory),
        DoctorCheck("gpu", partial(check_gpu, accelerator)),
    ]


def _text(findings: Sequence[Finding], statuses: "Counter[Status]") -> str:
    """A table of all, then a paragraph for each that is wrong, the errors first."""
    table = Table("looked at", "answer", "found", box=box.SIMPLE)
    for finding in findings:
        table.add_row(finding.name, finding.status, finding.found)
    console = Console(width=_WIDTH, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    paragraphs = [_paragraph(finding) for status in _WRONG for finding in findings if finding.status == status]
    total = ", ".join(f"{count} {status}" for status, count in statuses.items())
    return "\n\n".join([captured.get().strip("\n"), *paragraphs, total])


def _paragraph(finding: Finding) -> str:
    return "\n".join(
        [
            f"{finding.status}: {finding.name}",
            f"  got:      {finding.found}",
            f"  expected: {finding.expected}",
            f"  next:     {finding.mend}",
        ]
    )
