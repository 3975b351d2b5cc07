"""Which proxies the environment names, and whether requests to this machine's own servers go through them."""

import shlex
from collections.abc import Iterator, Sequence
from importlib.util import find_spec

from fusmae.doctor.finding import Finding
from fusmae.runs.environment import exclusions, proxies


def check_proxies(sent: Sequence[str]) -> Iterator[Finding]:
    """Check the proxies by scheme, and whether requests to this machine go through one.

    Args:
        sent: names of this machine to which requests go through a proxy, in the environment that the command was
            started in; the command itself excludes them from proxies.
    """
    yield from _check_socks()
    named = ", ".join(f"{scheme} by {address}" for scheme, address in sorted(proxies().items()))
    if not named:
        yield Finding("proxies", "ok", "none in the environment")
    elif not sent:
        yield Finding("proxies", "ok", f"{named}; not for this machine's own servers")
    else:
        found = f"{named}, for {', '.join(sent)}, too; fusmae and its flows go past it, prefect, mlflow and dvc don't"
        mend = " ".join(f"{name}={shlex.quote(value)}" for name, value in exclusions().items())
        yield Finding("proxies", "warning", found, "no proxy before this machine's own servers", f"export {mend}")


def _check_socks() -> Iterator[Finding]:
    """Check for SOCKS support: Prefect's client, httpx, sets up every proxy at its start, even with exclusions."""
    schemes = [scheme for scheme, address in sorted(proxies().items()) if address.lower().startswith("socks")]
    if schemes and find_spec("socksio") is None:
        names = " ".join(f"{scheme}_proxy {scheme.upper()}_PROXY" for scheme in schemes)
        found = f"{' and '.join(schemes)} by SOCKS, without socksio: no flow starts"
        mend = f"unset {names}   # or: pip install socksio"
        yield Finding("proxies by SOCKS", "warning", found, "HTTP proxies, or the package socksio", mend)
