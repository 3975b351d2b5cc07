"""Addresses on the network in messages and logs, without the passwords and signatures that they may contain."""

import re
from urllib.parse import urlsplit, urlunsplit


def shown(address: str) -> str:
    """Return an address for messages: without the password or the token that it may contain."""
    split = urlsplit(address)
    return urlunsplit(split._replace(netloc=split.netloc.rpartition("@")[2], query="…" if split.query else ""))


def without_secrets(text: str) -> str:
    """Return a message of a server or library without the passwords and queries of the addresses in it."""
    return re.sub(r"\?[^\s'\")]+", "?…", re.sub(r"://[^\s/]*@", "://", text))
