"""Where a flow run works: in the checkout, or in a git worktree with the cache and the raw data of the host.

Which hosts worked on a run, and at which commit, is noted in Prefect, because a run may move to another host.
"""

import hashlib
import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from filelock import FileLock, Timeout
from prefect.client.orchestration import get_client
from prefect.runtime import deployment, flow_run

from fusmae.config.params import load_config
from fusmae.config.source import PROVIDED_BY_USER
from fusmae.errors import CheckoutError, ConfigError
from fusmae.runs.git import Worktree, git
from fusmae.runs.mlflow_address import store_path, tracking_uri
from fusmae.runs.process_group import own_programs_first, run_in_group
from fusmae.runs.provenance import EXPERIMENT, FLOW_RUN, with_host
from fusmae.runs.resume_folder import RESUME_ROOT

_RUNS = Path(".fusmae/flow-runs")
_KEPT_DAYS = 7
_COMMIT, _HOSTS = "fusmae.commit", "fusmae.hosts"
# Hydra's grammar allows more, which is refused here: removing a default (~), reading environment variables
# (${oc.env:…}), searching other folders for groups.
_OVERRIDE = re.compile(r"(?!hydra[.=])[a-z_]\w*(\.[a-z_]\w*)*=(?!.*\$\{)[^\x00-\x1f\x7f]*", re.IGNORECASE | re.ASCII)
_GROUP = re.compile(r"\w+", re.ASCII)


@dataclass(frozen=True)
class Workspace:
    """A checkout to run stages in."""

    folder: Path  # the project's folder in the checkout
    environment: dict[str, str]  # environment variables for programs that run there
    experiment: str  # name of the DVC experiment that the run becomes; "" where it changes the original checkout itself
    commit: str  # hash of the commit that is checked out
    home: Path  # folder of the checkout in which the flow was started

    @cached_property
    def has_remote(self) -> bool:
        """Whether DVC has a default remote in this checkout."""
        with _dvc(self.folder) as repo:
            return bool(repo.config["core"].get("remote"))

    def run(self, *command: str, **variables: str) -> int:
        """Run a program of this Python environment in the workspace, with further variables; returns its exit code."""
        program = Path(sys.executable).with_name(command[0])
        environment = {**self.environment, **variables}
        return run_in_group([str(program), *command[1:]], folder=self.folder, environment=environment)


def _dvc(folder: Path) -> Any:
    from dvc.repo import Repo

    return Repo(str(folder))


@contextmanager
def open_workspace(commit: str, overrides: Sequence[str]) -> Iterator[Workspace]:
    """The checkout itself for a flow called by hand; a worktree for a worker's flow, or one with overrides or a commit.

    A worktree exists as long as the run. If the run's process is killed, the run finds its worktree again when it is
    retried.

    Raises:
        CheckoutError: there is no such commit, or git can't check it out.
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
        # A run that is retried, here or on another host, stays at its commit, even if the checkout has moved on.
        at = commit_of_run() or _commit(commit or "HEAD")
        note_host(at)
        worktree = Worktree(top, at, json.dumps(list(overrides)))
        variables = _environment(home, run_id) | _shared(home, name)
        made = Workspace(worktree.folder, variables, name, at, home)
        try:
            if not worktree.is_begun:
                worktree.make()
                _set_up(made, overrides)
                worktree.begin()
            yield made
        finally:
            worktree.remove()


def _set_up(made: Workspace, overrides: Sequence[str]) -> None:
    local = Path(".dvc/config.local")
    if (made.home / local).exists():
        shutil.copy2(made.home / local, made.folder / local)
    with _dvc(made.home) as repo:
        # Relative: DVC writes its configuration in ASCII, and the checkout's own path may have other characters.
        cache = os.path.relpath(repo.cache.local_cache_dir, made.folder)
    for option, value in (("cache.dir", cache), ("cache.type", "reflink,hardlink,copy")):
        if made.run("dvc", "config", "--local", option, value):
            raise CheckoutError(f"DVC does not take {option} = {value} in {made.folder}.")
    if overrides:
        # `data=folder` means what the folder of pairs says of itself.
        pairs = Path("data/raw/folder")
        if (made.home / pairs).is_dir():
            _link(made.folder / pairs, made.home / pairs)
        lay_over(made.folder, overrides)
    _share_raw_data(made.home, made.folder)
    # Data that the cache lacks is computed by its stage, or comes from the remote.
    made.run("dvc", "checkout", "--quiet", "--allow-missing")


def lay_over(folder: Path, overrides: Sequence[str]) -> None:
    """Apply overrides, such as `pretrain.epochs=3` or `model=small`, to a checkout's params.yaml.

    Raises:
        ConfigError: a text is not an override, or it names a key or sets a value that the parameters don't allow.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from fusmae.config.composition import compose

    for override in overrides:
        name, _, value = override.partition("=")
        is_group = (folder / "conf" / name).is_dir()
        if not _OVERRIDE.fullmatch(override) or (is_group and not _GROUP.fullmatch(value)):
            raise ConfigError(
                f"{override!r} is not an override.",
                expected="name=value, as in pretrain.epochs=3 or model=small",
                hint="dvc exp run -S … takes the same ones",
            )
    try:
        compose(folder, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        problem = f"The overrides {list(overrides)} don't fit params.yaml: {error}"
        raise ConfigError(problem, hint="look up the names in params.yaml") from error
    load_config(folder / "params.yaml")


def _environment(home: Path, run_id: str) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": own_programs_first(),
        # Keeps git from waiting for a password at the terminal.
        "GIT_TERMINAL_PROMPT": "0",
        # The environment that `make` installs sets this too, but a worker may run in another one.
        "DVC_SITE_CACHE_DIR": str(home / ".fusmae" / "dvc"),
        FLOW_RUN: run_id,
    }


def _shared(home: Path, experiment: str) -> dict[str, str]:
    """Variables that name what all runs of a host share, so that nothing is lost with a worktree."""
    # Author and committer of the experiment, from git's configuration or, where a worker has none, with defaults.
    signature = {
        "NAME": git("config", "user.name").stdout.strip() or "fusmae worker",
        "EMAIL": git("config", "user.email").stdout.strip() or f"fusmae@{socket.gethostname()}",
    }
    signed = {f"GIT_{role}_{part}": text for role in ("AUTHOR", "COMMITTER") for part, text in signature.items()}
    return {
        # The original address of a server, with user and password.
        "MLFLOW_TRACKING_URI": tracking_uri() if store_path() else os.environ["MLFLOW_TRACKING_URI"],
        RESUME_ROOT: str(home / ".fusmae" / "resume"),
        EXPERIMENT: experiment,
        **{name: os.environ.get(name) or text for name, text in signed.items()},
    }


def _commit(name: str) -> str:
    found = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if found.returncode:
        raise CheckoutError(
            f"{Path.cwd()} has no commit {name}.",
            expected="a commit, branch or tag of this clone",
            hint="git fetch --all, in the checkout that the worker uses (FUSMAE_WORKSPACE)",
        )
    return found.stdout.strip()


def commit_of_run() -> str:
    """The commit at which the run began, on this or another host; "" where the run begins now.

    Raises:
        CheckoutError: the run began on another host, at a commit that this clone can't fetch.
    """
    commit = _label(_COMMIT)
    # By the commit's hash, if the server of `origin` allows that; otherwise with the branch that contains it.
    for fetched in (["origin", commit], ["--all"]):
        if commit and not _is_here(commit):
            git("fetch", "--quiet", *fetched)
    if commit and not _is_here(commit):
        raise CheckoutError(
            "This flow run began on another host, at a commit that this clone does not have.",
            got=f"worked on: {hosts_of_run()}",
            expected=f"commit {commit}, so that all of its stages ran the same code",
            hint="push that commit from there and retry the run, or start a new run here",
        )
    return commit


def note_host(commit: str) -> None:
    """Note in Prefect that this host works on the run, at a commit."""
    hosts = with_host(hosts_of_run(), socket.gethostname(), commit)
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(UUID(str(flow_run.get_id())), {_COMMIT: commit, _HOSTS: hosts})


def hosts_of_run() -> str:
    """All hosts that worked on the run, in order: `one at 1234567890ab, two at 1234567890ab`; "" if none was noted."""
    return _label(_HOSTS)


def _label(name: str) -> str:
    with get_client(sync_client=True) as client:
        return str(client.read_flow_run(UUID(str(flow_run.get_id()))).labels.get(name, ""))


def _is_here(commit: str) -> bool:
    return git("cat-file", "-e", f"{commit}^{{commit}}").returncode == 0


def _remove_left(home: Path) -> None:
    """Remove worktrees of runs that were killed and not retried for `_KEPT_DAYS` days."""
    for top in (home / _RUNS).glob("*/"):
        if time.time() - top.stat().st_mtime > _KEPT_DAYS * 86_400:
            # A run that holds its lock is in progress.
            with suppress(Timeout), FileLock(f"{top}.lock").acquire(timeout=0):
                Worktree(top, "", "").remove()


def _share_raw_data(home: Path, folder: Path) -> None:
    """Link raw data into the worktree `folder`: those of the checkout `home` with the same source, or the host's."""
    source, receipt = _source(folder), home / "data/raw.json"
    is_same = receipt.exists() and json.loads(receipt.read_text(encoding="utf-8")).get("source") == source
    raw, downloads = Path("data/raw", source["name"]), Path("data/downloads")
    # Files that a user provides are in the checkout, whatever source the checkout itself was run with.
    is_of_checkout = is_same or source["name"] in PROVIDED_BY_USER
    files = home / raw if is_of_checkout else _raw_of_host(home, source) / raw.name
    for link, target in ((raw, files), (downloads, home / downloads)):
        target.mkdir(parents=True, exist_ok=True)
        _link(folder / link, target)


def _link(link: Path, target: Path) -> None:
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target.absolute(), target_is_directory=True)


def fetch_lock(home: Path, folder: Path) -> FileLock:
    """The lock with which only one run of the host fetches this source: others wait, and then find the data there."""
    raw = _raw_of_host(home, _source(folder))
    raw.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{raw}.lock")


def _source(folder: Path) -> dict[str, Any]:
    source: dict[str, Any] = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))["data"]["source"]
    return source


def _raw_of_host(home: Path, source: dict[str, Any]) -> Path:
    """Folder of a host for the raw data of a source with these settings."""
    digest = hashlib.sha256(json.dumps(source, sort_keys=True, default=str).encode()).hexdigest()
    return home / ".fusmae" / "raw" / f"{source['name']}-{digest[:12]}"
