"""Where a flow run works: by hand in the checkout, otherwise in a clean git worktree with the host's DVC cache."""

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout
from prefect.runtime import deployment, flow_run

from flows.experiment import lay_over
from flows.hosts import commit_of_run, note_host
from flows.raw_data import share_raw_data
from fusmae.errors import CheckoutError
from fusmae.runs.git import Worktree, git
from fusmae.runs.mlflow_address import is_local, tracking_uri
from fusmae.runs.process_group import own_programs_first, run_in_group
from fusmae.runs.provenance import EXPERIMENT, FLOW_RUN
from fusmae.runs.resume_folder import SCRATCH

_RUNS = Path(".fusmae/flow-runs")
_KEPT_DAYS = 7


@dataclass(frozen=True)
class Workspace:
    """A checkout to run stages in.

    Attributes:
        folder: the project's folder in it.
        environment: variables for what runs there.
        experiment: name of the DVC experiment that the run becomes; "" by hand, where it changes the checkout itself.
        commit: that it works at.
        home: the checkout that the flow was started in.
    """

    folder: Path
    environment: dict[str, str]
    experiment: str
    commit: str
    home: Path

    @cached_property
    def has_remote(self) -> bool:
        """Whether DVC has a default remote there."""
        from dvc.repo import Repo

        with Repo(str(self.folder)) as repo:
            return bool(repo.config["core"].get("remote"))

    def run(self, *command: str, **variables: str) -> int:
        """Run a program of this environment in it, with some more variables; its exit code."""
        program = Path(sys.executable).with_name(command[0])
        environment = {**self.environment, **variables}
        return run_in_group([str(program), *command[1:]], folder=self.folder, environment=environment)


@contextmanager
def open_workspace(commit: str, overrides: Sequence[str]) -> Iterator[Workspace]:
    """The checkout itself for a flow that was called by hand; for a worker's, or one with overrides, a worktree.

    A worktree is there as long as the run. That of a run whose process was killed is found again when it is run again.

    Args:
        commit: to work at; "" for the checkout's.
        overrides: of parameters, `pretrain.epochs=3`.

    Raises:
        CheckoutError: no such commit, or git refuses.
        ConfigError: an override does not fit.
    """
    home, run_id = Path.cwd(), str(flow_run.get_id() or "")
    if not (deployment.get_id() or overrides or commit):
        yield Workspace(home, _environment(home, run_id), "", _commit("HEAD"), home)
        return
    _remove_left(home)
    top = home / _RUNS / run_id
    top.parent.mkdir(parents=True, exist_ok=True)
    name = f"{flow_run.get_flow_name()}-{run_id[:8]}"
    with FileLock(f"{top}.lock"):
        # A run that is run again, here or on another host, stays at its commit, wherever the checkout has gone since.
        noted = Path(f"{top}.commit")
        at = commit_of_run() or _commit(commit or "HEAD")
        noted.write_text(at, encoding="utf-8")
        note_host(at)
        worktree = Worktree(top, at, json.dumps(list(overrides)))
        variables = _environment(home, run_id) | _shared(home, name)
        made = Workspace(worktree.folder, variables, name, at, home)
        with ExitStack() as after:
            after.callback(worktree.remove)
            if not worktree.is_begun:
                worktree.make()
                _set_up(made, overrides)
                worktree.begin()
            yield made
        noted.unlink()


def _set_up(made: Workspace, overrides: Sequence[str]) -> None:
    local = Path(".dvc/config.local")
    if (made.home / local).exists():
        shutil.copy2(made.home / local, made.folder / local)
    # Relative: DVC writes its configuration in ASCII, which the checkout's own path may exceed.
    cache = os.path.relpath(_cache(made.home), made.folder)
    for option, value in (("cache.dir", cache), ("cache.type", "reflink,hardlink,copy")):
        if made.run("dvc", "config", "--local", option, value):
            raise CheckoutError(f"DVC does not take {option} = {value} in {made.folder}.")
    if overrides:
        lay_over(made.folder, overrides)
    share_raw_data(made.home, made.folder)
    # What the cache lacks is made, or comes from the remote.
    made.run("dvc", "checkout", "--quiet", "--allow-missing")


def _cache(home: Path) -> str:
    from dvc.repo import Repo

    with Repo(str(home)) as repo:
        return str(repo.cache.local_cache_dir)


def _environment(home: Path, run_id: str) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": own_programs_first(),
        # git must never wait for somebody to type a password.
        "GIT_TERMINAL_PROMPT": "0",
        # A worker's host may have another environment than the one `make` installs, which sets it, too.
        "DVC_SITE_CACHE_DIR": str(home / ".fusmae" / "dvc"),
        FLOW_RUN: run_id,
    }


def _shared(home: Path, experiment: str) -> dict[str, str]:
    """What the runs of a host have in common, so that nothing is lost with a worktree."""
    return {
        # A server's address as it was given, with user and password.
        "MLFLOW_TRACKING_URI": tracking_uri() if is_local() else os.environ["MLFLOW_TRACKING_URI"],
        SCRATCH: str(home / ".fusmae" / "scratch"),
        EXPERIMENT: experiment,
        **_signature(),
    }


def _signature() -> dict[str, str]:
    """Who saves the experiment: whom git knows here; a worker's host may know nobody."""
    known = {
        "NAME": git("config", "user.name").stdout.strip() or "fusmae worker",
        "EMAIL": git("config", "user.email").stdout.strip() or f"fusmae@{socket.gethostname()}",
    }
    names = (f"GIT_{role}_{part}" for role in ("AUTHOR", "COMMITTER") for part in known)
    return {name: os.environ.get(name) or known[name.rpartition("_")[2]] for name in names}


def _commit(name: str) -> str:
    found = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if found.returncode:
        raise CheckoutError(
            f"{Path.cwd()} has no commit {name}.",
            expected="a commit, branch or tag of this clone",
            hint="git fetch --all, in the checkout that the worker uses (FUSMAE_WORKSPACE)",
        )
    return found.stdout.strip()


def _remove_left(home: Path) -> None:
    """Worktrees of runs that were killed and that nobody ran again."""
    for noted in (home / _RUNS).glob("*.commit"):
        top = noted.with_suffix("")
        if time.time() - noted.stat().st_mtime > _KEPT_DAYS * 86_400:
            try:
                with FileLock(f"{top}.lock").acquire(timeout=0):
                    Worktree(top, "", "").remove()
                    noted.unlink()
            except Timeout:
                pass  # it runs
