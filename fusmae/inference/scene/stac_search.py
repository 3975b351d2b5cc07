"""Looks for the scenes of a place in a STAC API: for each modality the item that covers the place with least cloud."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fusmae.errors import InputError
from fusmae.inference.scene.stac_item import TIMEOUT_S, WEB, SceneItem, as_scene, web_session
from fusmae.rasters.geometry import Box
from fusmae.runs.address import shown, without_secrets

_MOST_ITEMS = 500
_PER_PAGE = 100
_MOST_LISTED = 5
_MOST_LETTERS = 300
# Difference in coverage that the rounding of coordinates makes.
_WHOLE = 0.9999


@dataclass(frozen=True)
class Search:
    """What to look for, and where."""

    address: str  # address of the STAC API
    bbox: Box  # left, bottom, right and top of the place, in degrees
    datetime: str | None = None  # a day, or two joined by a slash, as STAC writes them; None for any time
    collections: tuple[str, ...] = ()  # identifiers of collections to look in; () for all


def search_items(search: Search, modalities: Sequence[str]) -> tuple[dict[str, SceneItem], list[str]]:
    """The item of each modality that has any, and sentences on what was chosen from how many.

    An item must cover the whole place: scenes are not joined. Of several the one with the least cloud is chosen; where
    items state no cloud, as those of radar, the one nearest in time to what was chosen before, else the latest.

    Raises:
        InputError: the API can't be reached or is none, it has no item of any modality, no item covers the place, or
            those that cover it are of several collections.
    """
    found: dict[str, list[SceneItem]] = {}
    others: set[str] = set()
    for item in _items(search):
        if item.modality in modalities:
            found.setdefault(item.modality, []).append(item)
        else:
            others.add(str(item.item.collection_id))
    if not found:
        raise InputError(
            f"{shown(search.address)} has no item of {' or '.join(modalities)}.",
            got=f"items of {', '.join(sorted(others))}" if others else "no items",
            expected=f"items whose platform is Sentinel-1 or -2, in {_described(search)}",
            hint="a longer --datetime, or another --collection",
        )
    chosen: dict[str, SceneItem] = {}
    sentences = []
    # What states cloud comes first: it is scarcer.
    for modality in sorted(found, key=lambda name: all(item.cloud_cover is None for item in found[name])):
        covering = _covering(search, modality, found[modality])
        chosen[modality] = min(covering, key=lambda item: _order(item, chosen))
        counts = f"{len(covering)} of {len(found[modality])} items cover the place"
        sentences.append(f"{modality}: {chosen[modality].described}; {counts}")
    sentences += [f"{modality}: no items, goes on without" for modality in modalities if modality not in found]
    return chosen, sentences


def _items(search: Search) -> list[SceneItem]:
    from pystac_client import Client
    from pystac_client.warnings import PystacClientWarning

    try:
        with warnings.catch_warnings():
            # About what a server does not promise, and may do all the same.
            warnings.simplefilter("ignore", PystacClientWarning)
            asked = Client.open(search.address, stac_io=_web_io()).search(
                bbox=search.bbox,
                datetime=search.datetime,
                collections=list(search.collections) or None,
                max_items=_MOST_ITEMS + 1,
                limit=_PER_PAGE,
            )
            items = [as_scene(item, shown(search.address), search.address) for item in asked.items()]
    except InputError:
        raise
    except Exception as error:  # what answers may be no STAC API at all, and pystac raises whatever it meets
        # Without its cause, whose text has whole addresses.
        raise InputError(
            f"{shown(search.address)} can't be searched.",
            got=_reason(error),
            expected=f"a STAC API that can search for items, and that takes {_described(search)}",
            hint="give the address of its landing page, which lists `search` among its links",
        ) from None
    if len(items) > _MOST_ITEMS:
        raise InputError(
            f"{shown(search.address)} has more than {_MOST_ITEMS} items there.",
            got=_described(search),
            hint="a shorter --datetime, or --collection NAME",
        )
    return items


def _reason(error: Exception) -> str:
    # An error of the server has its page for a text.
    if status := getattr(error, "status_code", None):
        return f"HTTP status {status}"
    return without_secrets(f"{type(error).__name__}: {' '.join(str(error).split())}")[:_MOST_LETTERS]


def _web_io() -> Any:
    from pystac_client.stac_api_io import StacApiIO

    class WebOnly(StacApiIO):
        """Follows links to addresses on the web only: pystac-client reads a path as a file of this machine."""

        def request(self, href: str, *arguments: Any, **options: Any) -> Any:
            _require_web(href)
            return super().request(href, *arguments, **options)

        def read_text(self, source: Any, *arguments: Any, **options: Any) -> Any:
            _require_web(str(getattr(source, "href", source)))
            return super().read_text(source, *arguments, **options)

    io = WebOnly(timeout=TIMEOUT_S)
    io.session = web_session()
    return io


def _require_web(href: str) -> None:
    if urlsplit(href).scheme.lower() not in WEB:
        raise InputError(
            "The STAC API leads to an address that is not on the web.",
            got=shown(href),
            expected="http or https",
            hint="give the address of an API that you trust",
        )


def _covering(search: Search, modality: str, items: Sequence[SceneItem]) -> list[SceneItem]:
    shares = {id(item): _share(item, search.bbox) for item in items}
    covering = [item for item in items if shares[id(item)] >= _WHOLE]
    if not covering:
        best = sorted(items, key=lambda item: -shares[id(item)])[:_MOST_LISTED]
        raise InputError(
            f"No {modality} item covers the whole place; scenes are not joined.",
            got="; ".join(f"{item.described} covers {shares[id(item)]:.0%}" for item in best),
            expected=f"one item that covers {_described(search)}",
            hint="a smaller --bbox, a longer --datetime, or --collection NAME to look for one modality alone",
        )
    collections = sorted({str(item.item.collection_id) for item in covering})
    if len(collections) > 1:
        raise InputError(
            f"Several collections have {modality} items of the place.",
            got=", ".join(collections),
            expected="one collection per modality",
            hint=f"--collection {collections[0]}, or another of them; it may be given once per modality",
        )
    return covering


def _share(item: SceneItem, bbox: Box) -> float:
    """Share of a place that an item's geometry covers."""
    from shapely import box, make_valid
    from shapely.geometry import shape

    wanted = box(*bbox)
    try:
        ground = make_valid(shape(item.item.geometry)) if item.item.geometry else box(*item.item.bbox)
    except Exception:  # a geometry that is none
        return 0.0
    return float(ground.intersection(wanted).area / wanted.area)


def _order(item: SceneItem, chosen: Mapping[str, SceneItem]) -> tuple[float, float, str]:
    time = item.taken.timestamp() if item.taken else 0.0
    near = next((other.taken.timestamp() for other in chosen.values() if other.taken), None)
    late = -time if near is None else abs(time - near)
    return (101.0 if item.cloud_cover is None else item.cloud_cover), late, item.id


def _described(search: Search) -> str:
    parts: Iterable[str] = (
        f"--bbox {','.join(f'{side:g}' for side in search.bbox)}",
        f"--datetime {search.datetime}" if search.datetime else "",
        *(f"--collection {name}" for name in search.collections),
    )
    return " ".join(filter(None, parts))
