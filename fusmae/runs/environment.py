"""Environment variables that libraries read once: they are set before anything heavy is imported."""

import os
from pathlib import Path
from urllib.request import getproxies_environment, proxy_bypass

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
"""Names by which servers on this machine are called."""


def keep_caches_inside(folder: Path) -> None:
    """Keep libraries' caches in the project's folder, send no usage reports, print less."""
    defaults: dict[str, object] = {
        "MPLCONFIGDIR": folder / ".fusmae" / "matplotlib",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "DO_NOT_TRACK": "true",
        "ORT_DISABLE_TELEMETRY": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, str(value))


def wait_without_spinning() -> None:
    """Let OpenMP's threads sleep while they wait for one another; comes before the first import of torch.

    By default they spin: beside any other load they take the core that the thread they wait for needs, and training
    takes a multiple of its time (benchmarks/threads.py). Results are the same bits.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def exclude_this_machine() -> None:
    """Let requests to this machine's own servers go past the proxies that the environment names.

    Prefect's temporary server, MLflow's beside a training and a mirror on localhost are out of any proxy's reach. What
    is excluded already stays excluded.
    """
    # On macOS a variable would hide the proxies that the system's settings name.
    if proxies():
        os.environ.update(exclusions())


def exclusions() -> dict[str, str]:
    """`no_proxy` and `NO_PROXY`, as some libraries read the one and some the other, with this machine's names added."""
    given = {name: os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")}
    either = next(filter(None, given.values()), "")
    return {name: _with_this_machine(value or either) for name, value in given.items()}


def proxies() -> dict[str, str]:
    """The environment's proxies: address by the scheme that it is for."""
    return {scheme: address for scheme, address in getproxies_environment().items() if scheme != "no"}


def sent_to_proxy() -> tuple[str, ...]:
    """Those names of this machine that a request would go to by a proxy."""
    return tuple(name for name in THIS_MACHINE if not proxy_bypass(name)) if proxies() else ()


def _with_this_machine(excluded: str) -> str:
    names = [name.strip() for name in excluded.split(",") if name.strip()]
    # Among other names the star would lose its meaning for some libraries.
    return "*" if "*" in names else ",".join(dict.fromkeys([*names, *THIS_MACHINE]))
