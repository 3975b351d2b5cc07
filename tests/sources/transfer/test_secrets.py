"""Passwords and tokens of addresses: sent to the server, not written down or shown."""

from pathlib import Path

import pytest

from fusmae.errors import SourceError
from fusmae.runs.address import shown, without_secrets
from fusmae.sources.transfer.fetch import fetch_file
from fusmae.sources.transfer.remote import DownloadOptions, RemoteFile
from fusmae.sources.transfer.segments import Segments
from fusmae.sources.transfer.server import RemoteOffer

ADDRESS = "https://someone:secret@host/a.tar?token=secret"


def test_an_address_is_shown_without_password_and_token() -> None:
    assert shown(ADDRESS) == "https://host/a.tar?…"
    assert shown("https://host/a.tar") == "https://host/a.tar"


def test_what_a_library_says_is_shown_without_password_and_token() -> None:
    said = f"Max retries exceeded with url: /a.tar?token=secret (Caused by '{ADDRESS}')"
    assert without_secrets(said) == "Max retries exceeded with url: /a.tar?… (Caused by 'https://host/a.tar?…')"
    assert without_secrets("404 Not Found: is it gone?") == "404 Not Found: is it gone?"


def test_the_plan_of_a_download_that_was_cut_off_holds_no_secret(tmp_path: Path) -> None:
    Segments(tmp_path / "a", "0" * 32).begin(ADDRESS, RemoteOffer(10, True, "edition"), is_own_address=True)
    written = [path.read_text(encoding="utf-8") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert any("edition" in text for text in written)
    assert not any("secret" in text for text in written)


def test_an_address_that_does_not_answer_is_named_without_its_token(tmp_path: Path) -> None:
    dead = "http://someone:secret@127.0.0.1:9/a.tar?token=secret"
    with pytest.raises(SourceError, match=r"127\.0\.0\.1:9/a\.tar\?…") as raised:
        fetch_file(
            RemoteFile("a.tar", dead, "0" * 32),
            tmp_path / "a.tar",
            DownloadOptions(("http://127.0.0.1:9/?token=secret",)),
        )
    assert "secret" not in str(raised.value)
