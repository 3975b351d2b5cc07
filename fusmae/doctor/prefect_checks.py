"""Whether Prefect's server answers, has the installed version, and has workers; flows also run without a server."""

from collections.abc import Iterator
from importlib import metadata

from fusmae.doctor.finding import Finding
from fusmae.doctor.http import NoAnswerError, ServerAddress, server_at

_ADDRESS = "export PREFECT_API_URL=http://…:4200/api"
_START = f"prefect server start   # there, or correct the address: {_ADDRESS}"


def check_prefect(pools: tuple[str, ...]) -> Iterator[Finding]:
    """Check server, version and work pools.

    Args:
        pools: names of the work pools that should have a worker.
    """
    server = _server()
    if server is None:
        yield _without_server()
        return
    try:
        answer, version = server.get("/health"), server.get("/admin/version")
        if answer.json() is not True:
            found = f"{server.url} answers {answer.status}, and not as Prefect's API does"
            yield Finding("prefect server", "error", found, "an address that ends in /api", _START)
        elif version.is_refusal:
            mend = "export PREFECT_API_AUTH_STRING=user:password"
            yield Finding("prefect server", "error", f"{server.url} does not know who asks", "its password", mend)
        else:
            yield Finding("prefect server", "ok", f"{server.url} answers")
            yield _version_finding(str(version.json()))
            for pool in pools:
                yield _check_pool(server, pool)
    except NoAnswerError as error:
        expected = "a server that answers, or PREFECT_API_URL unset"
        yield Finding("prefect server", "error", f"{server.url} does not answer: {error}", expected, _START)


def _server() -> ServerAddress | None:
    """The server that a flow started here would use; None where none is set."""
    from prefect.settings import Settings

    api = Settings().api
    if not api.url:
        return None
    user = None
    if api.auth_string:
        name, _, password = api.auth_string.get_secret_value().partition(":")
        user = (name, password)
    return server_at(api.url, user, api.key.get_secret_value() if api.key else "")


def _without_server() -> Finding:
    from prefect.settings import load_profiles

    # If pyproject.toml sets Prefect's home, `prefect config set` writes a profile that flows don't read.
    profile = load_profiles().active_profile
    named = {setting.name: value for setting, value in profile.settings.items()} if profile else {}
    if url := named.get("PREFECT_API_URL"):
        found = f"Prefect's profile names {url}, which flows don't see"
        return Finding("prefect server", "warning", found, "PREFECT_API_URL in the environment", _ADDRESS)
    return Finding("prefect server", "skipped", "PREFECT_API_URL is not set: flows run without a server")


def _version_finding(there: str) -> Finding:
    here = metadata.version("prefect")
    if there == here:
        return Finding("prefect version", "ok", f"{here} on both sides")
    expected, mend = "the same on both sides", f"pip install prefect=={here}   # on the server"
    return Finding("prefect version", "warning", f"{there} there, {here} here", expected, mend)


def _check_pool(server: ServerAddress, pool: str) -> Finding:
    name, answer = f"work pool {pool}", server.get(f"/work_pools/{pool}")
    if answer.status == 404:
        expected = "a pool for the deployments"
        return Finding(name, "error", "the server does not have it", expected, "python -m flows.deploy")
    found = answer.json()
    if answer.status != 200 or not isinstance(found, dict):
        return Finding(name, "error", f"the server answers {answer.status}", "what the pool is", _START)
    # A pool is READY while one of its workers sends heartbeats.
    status = found.get("status")
    if status == "READY":
        return Finding(name, "ok", "a worker is online")
    if status == "PAUSED":
        return Finding(name, "warning", "it is paused", "a pool that starts runs", f"prefect work-pool resume {pool}")
    mend = f'FUSMAE_WORKSPACE="$PWD" prefect worker start --pool {pool}'
    return Finding(name, "warning", "no worker is online", "a worker that takes its runs", mend)
