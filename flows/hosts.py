"""Which hosts worked on a flow run, and at which commit; noted in Prefect, because a run may move to another host."""

import socket
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from fusmae.errors import CheckoutError
from fusmae.runs.git import git
from fusmae.runs.provenance import with_host

_COMMIT, _HOSTS = "fusmae.commit", "fusmae.hosts"


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
