"""Reads STAC items, from files and from addresses, as scenes: of which modality an item is, and what it states.

What comes from the network is not trusted: sizes are limited, and an item from there names no file of this machine.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from os.path import relpath
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit
from urllib.request import url2pathname

from pydantic import TypeAdapter

from fusmae.errors import InputError
from fusmae.inference.scene.files import is_there
from fusmae.rasters.band_names import PRODUCT_NAMES
from fusmae.runs.address import shown, without_secrets

WEB = ("http", "https")
TIMEOUT_S = (10, 60)
"""Seconds to wait for a connection, and for each part of an answer."""

_ENDINGS = (".json", ".geojson")
# What addresses of items don't end in: rasters and archives, which must be on this machine.
_NO_ITEM = (".tif", ".tiff", ".jp2", ".vrt", ".zip", ".tar", ".gz", ".tgz", ".nc", ".hdf", ".h5", ".safe", ".zarr")
_MAX_BYTES = 64 * 2**20
_CHUNK_BYTES = 2**16
_MOST_LISTED = 20
_MISSIONS = {"s1": re.compile(r"(sentinel-?1|s1)[a-d]?|c-?sar"), "s2": re.compile(r"(sentinel-?2|s2)[a-d]?|msi")}
# Bands that only one of the two has; B02 is a name of Landsat's, too.
_TELLING = {"s1": set(PRODUCT_NAMES["s1"]), "s2": {"B8A"}}
_HOW_TO_CHOOSE = "give one: the item's own file or address, or the collection's with #ID behind it"


@dataclass(frozen=True)
class SceneItem:
    """A STAC item whose assets are bands of one scene."""

    item: Any = field(repr=False)  # the `pystac.Item`
    place: str  # file or address that it was read from, for people: without user, password and query
    base: str = field(repr=False)  # file or address that the links of its assets are relative to

    @property
    def id(self) -> str:
        """Its identifier."""
        return str(self.item.id)

    @property
    def properties(self) -> Mapping[str, Any]:
        """Its properties, as JSON values."""
        return dict(self.item.properties)

    @property
    def taken(self) -> datetime | None:
        """When the scene was taken; the beginning, where the item states a range."""
        found: datetime | None = self.item.datetime or self.item.common_metadata.start_datetime
        return found.replace(tzinfo=found.tzinfo or UTC) if found else None

    @property
    def cloud_cover(self) -> float | None:
        """Percentage of the scene that clouds cover; None where the item states none."""
        found = self.properties.get("eo:cloud_cover")
        return float(found) if isinstance(found, int | float) else None

    @property
    def modality(self) -> str:
        """`s1` or `s2`, by platform, constellation or instruments, or else by bands of its assets; "" for others."""
        stated = [self.properties.get(key) for key in ("constellation", "platform", "mission")]
        instruments = self.properties.get("instruments")
        stated += instruments if isinstance(instruments, list) else []
        names = [re.sub(r"[_\s]+", "-", str(name).lower()) for name in stated if name]
        for modality, pattern in _MISSIONS.items():
            if any(map(pattern.fullmatch, names)):
                return modality
        if names:
            return ""
        words = {word.upper() for key in self.item.assets for word in re.split(r"[^A-Za-z0-9]", key)}
        return next((modality for modality, telling in _TELLING.items() if words & telling), "")

    @property
    def described(self) -> str:
        """`S2A_33UUP_20200607_0_L2A (2020-06-07, 12 % cloud)`."""
        facts = [f"{self.taken:%Y-%m-%d}"] if self.taken else []
        facts += [] if self.cloud_cover is None else [f"{self.cloud_cover:.0f} % cloud"]
        return f"{self.id} ({', '.join(facts)})" if facts else self.id

    def link_from(self, folder: Path) -> str:
        """A link to the item from a file in a folder: its address, else its path relative to the folder."""
        own = _own_address(self.item) or self.base
        if urlsplit(own).scheme in WEB:
            parts = urlsplit(own)
            return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
        return Path(relpath(self.base, folder)).as_posix()

    def resolved(self, key: str, href: str) -> str:
        """The address or path of an asset, from the link that the item has to it.

        Raises:
            InputError: it is neither http(s), s3 nor a file; or the item is from the network and names a file.
        """
        scheme = urlsplit(href).scheme.lower()
        if scheme in (*WEB, "s3"):
            return href
        if urlsplit(self.base).scheme in WEB:
            if not scheme and href and href[0] not in "/\\~":
                return urljoin(self.base, href)
            raise InputError(
                f"Asset {key} of {self.id} can't be read.",
                got=f"{shown(href)} in an item from {shown(self.base)}",
                expected="an address of http, https or s3, or one relative to the item's: what comes from the network "
                "names no files of this machine",
            )
        if (scheme and scheme != "file") or href.startswith("/vsi"):
            raise InputError(
                f"Asset {key} of {self.id} can't be read.",
                got=shown(href),
                expected="a file, or an address of http, https or s3",
                hint=f"copy what the item names by {scheme or href.split('/')[1]} to this machine, and let it name the "
                "copies",
            )
        return str(Path(self.base).parent / (url2pathname(urlsplit(href).path) if scheme else href))


_JSON = TypeAdapter(dict[str, Any])


def scene_item(modality: str, given: Sequence[str | Path | SceneItem]) -> SceneItem | None:
    """The STAC item that a scene is given as; None for files, folders and archives.

    Raises:
        InputError: items and files are mixed, an item can't be read, or there are several or none of the modality.
    """
    items = [one for one in given if isinstance(one, SceneItem) or _names_item(str(one))]
    if not items:
        return None
    if len(given) > 1:
        raise InputError(
            f"A STAC item is a whole {modality} scene.",
            got=", ".join(one.id if isinstance(one, SceneItem) else shown(str(one)) for one in given),
            expected="one item, or files without an item",
        )
    (only,) = items
    return only if isinstance(only, SceneItem) else _choose(modality, read_items(str(only)), shown(str(only)))


def read_items(text: str) -> list[SceneItem]:
    """Read the items of a file or an address: an item, or an item collection, of which `#ID` behind it chooses one.

    Raises:
        InputError: it can't be read, or holds no items.
    """
    address, chosen = (text, "") if is_there(text) else urldefrag(text)
    is_web = urlsplit(address).scheme.lower() in WEB
    path = _local_path(address)
    place = shown(address) if is_web else str(path)
    written = _fetched(address) if is_web else _contents(path)
    items = _parsed(written, place, address if is_web else str(path))
    if not chosen:
        return items
    if found := [item for item in items if item.id == chosen]:
        return found
    raise InputError(f"{place} holds no item {chosen}.", got=_listed(items), expected="the identifier of one of them")


def web_session() -> Any:
    """A session of requests that follows no redirection to another scheme, but from http to https."""
    from requests import Session

    session = Session()
    session.hooks["response"].append(_refuse_redirection)
    return session


def _names_item(text: str) -> bool:
    if is_there(text):
        return Path(text).is_file() and text.lower().endswith(_ENDINGS)
    parts = urlsplit(urldefrag(text).url)
    path = parts.path.lower().rstrip("/")
    if parts.scheme.lower() in WEB:
        return not path.endswith(_NO_ITEM)
    return parts.scheme.lower() in ("", "file") and path.endswith(_ENDINGS) and not path.startswith("/vsi")


def _choose(modality: str, items: Sequence[SceneItem], place: str) -> SceneItem:
    fitting = [item for item in items if item.modality == modality]
    if not fitting and modality not in _MISSIONS:
        fitting = list(items)
    # An item that states no mission may be of the one that the option names.
    fitting = fitting or [item for item in items if not item.modality]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InputError(
            f"{place} holds {len(fitting)} items of {modality}: a scene is one.",
            got=_listed(fitting),
            expected="one item",
            hint=_HOW_TO_CHOOSE,
        )
    kinds = ", ".join(sorted({item.modality for item in items}))
    raise InputError(
        f"{place} holds no item of {modality}.",
        got=_listed(items) or "no items",
        expected=f"an item whose constellation, platform or bands are those of {modality}",
        hint=f"it looks like {kinds}: give it as --scene {kinds}=PATH" if len(items) == 1 else "",
    )


def _listed(items: Iterable[SceneItem]) -> str:
    texts = [item.described for item in items]
    return "; ".join(texts[:_MOST_LISTED]) + (f" and {len(texts) - _MOST_LISTED} more" * (len(texts) > _MOST_LISTED))


def _parsed(written: bytes, place: str, base: str) -> list[SceneItem]:
    try:
        found = _JSON.validate_json(written)
    except ValueError:
        raise InputError(
            f"{place} is no STAC item.", got="no JSON object", expected="an item or an item collection"
        ) from None
    kind, features = found.get("type"), found.get("features")
    if kind == "FeatureCollection" and isinstance(features, list):
        return [_item(value, place, base) for value in features]
    if kind == "Feature":
        return [_item(found, place, base)]
    raise InputError(
        f"{place} is no STAC item.",
        got=f"type {str(kind)[:80]}",
        expected="an item (type Feature) or an item collection (FeatureCollection)",
        hint="give one of its items, or look for some: --search ADDRESS --bbox W,S,E,N"
        if kind in ("Catalog", "Collection")
        else "",
    )


def _item(value: Any, place: str, base: str) -> SceneItem:
    from pystac import Item

    try:
        return as_scene(Item.from_dict(value), place, base)
    except Exception as error:  # pystac raises whatever its fields meet
        raise InputError(
            f"{place} holds an item that can't be read.",
            got=f"{type(error).__name__}: {str(error)[:200]}",
            expected="items as STAC 1.0 or 1.1 describes them",
            hint="stac-validator, a program, names the field that is wrong",
        ) from error


def as_scene(item: Any, place: str, base: str) -> SceneItem:
    """A `pystac.Item` as a scene; of one from the network, links are relative to its own address."""
    own = _own_address(item)
    return SceneItem(item, place, own if own and urlsplit(base).scheme in WEB else base)


def _own_address(item: Any) -> str:
    href = item.get_self_href() or ""
    return href if urlsplit(href).scheme in WEB else ""


def _local_path(text: str) -> Path:
    parts = urlsplit(text)
    return Path(unquote(parts.path)) if parts.scheme.lower() == "file" else Path(text)


def _contents(path: Path) -> bytes:
    try:
        if path.stat().st_size <= _MAX_BYTES:
            return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.", hint="check the paths of the scenes") from error
    raise _too_large(str(path))


def _fetched(address: str) -> bytes:
    from requests import RequestException

    content = bytearray()
    try:
        with web_session() as session, session.get(address, stream=True, timeout=TIMEOUT_S) as answer:
            if answer.status_code != 200:
                raise InputError(
                    f"{shown(address)} can't be read.",
                    got=f"HTTP status {answer.status_code}",
                    expected="a STAC item",
                    hint="its signature may have expired" if answer.status_code in (401, 403) else "check the address",
                )
            for chunk in answer.iter_content(_CHUNK_BYTES):
                content += chunk
                if len(content) > _MAX_BYTES:
                    raise _too_large(shown(address))
    except RequestException as error:
        # Without its cause, whose text has the whole address.
        raise InputError(
            f"{shown(address)} can't be reached: {without_secrets(str(error))}",
            hint="check the address and the network, or download the item and give the file",
        ) from None
    return bytes(content)


def _too_large(place: str) -> InputError:
    return InputError(f"{place} is too large for STAC items.", expected=f"up to {_MAX_BYTES // 2**20} MiB")


def _refuse_redirection(answer: Any, *_: object, **__: object) -> None:
    if not answer.is_redirect:
        return
    target = urljoin(answer.url, answer.headers["location"])
    schemes = urlsplit(answer.url).scheme.lower(), urlsplit(target).scheme.lower()
    if schemes[0] != schemes[1] and schemes != WEB:
        raise InputError(
            f"{shown(answer.url)} leads to another kind of address.",
            got=shown(target),
            expected=f"an address of {schemes[0]}",
            hint="give the right address, if you trust it",
        )
