"""Names of bands: product names, and the names that archives and programs give to the same bands."""

import re
from collections.abc import Collection, Iterable, Mapping
from itertools import chain

PRODUCT_NAMES: Mapping[str, tuple[str, ...]] = {
    "s1": ("VV", "VH", "HH", "HV"),
    "s2": ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"),
}
"""Product names of a modality's bands, including bands that no model takes."""

# STAC's common names and Earth Search's asset keys, and variants of them in other catalogues, by band. A name that may
# stand for several bands is not resolved, but shown with them: swir2 is B11 in one catalogue and B12 in another.
_SYNONYMS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "s2": {
        "B01": ("coastal", "coastal aerosol"),
        "B02": ("blue",),
        "B03": ("green",),
        "B04": ("red",),
        "B05": ("red edge", "red edge 1", "red edge 071"),
        "B06": ("red edge", "red edge 2", "red edge 075"),
        "B07": ("red edge", "red edge 3", "red edge 078"),
        "B08": ("nir", "nir 1", "nir 2"),
        "B8A": ("nir 08", "nir 1", "nir 2"),
        "B09": ("nir 09",),
        "B10": ("cirrus",),
        "B11": ("swir", "swir 1", "swir 2", "swir 3", "swir 16"),
        "B12": ("swir", "swir 1", "swir 2", "swir 3", "swir 22"),
    }
}
_BEFORE, _AFTER = "(?<![A-Za-z0-9])", "(?![A-Za-z0-9])"


def names_in(modality: str, texts: Iterable[str], wanted: Collection[str], *, synonyms: bool = True) -> tuple[str, ...]:
    """Return product names of the bands that texts name: `B02` for `T33UUP_B02_10m`, `B2 (blue)` or `blue`.

    Product names take precedence over synonyms. The result is empty where the texts name no band, and has several names
    where the texts are ambiguous.

    Texts are descriptions, tags or the name of a file. Of a modality without product names only `wanted` bands, which
    a model takes, are found.
    """
    texts = tuple(texts)
    names = dict.fromkeys((*wanted, *PRODUCT_NAMES.get(modality, ())))
    found = tuple(name for name in names if any(_product_pattern(name).search(text) for text in texts))
    if found or not synonyms or modality not in _SYNONYMS:
        return found
    table = _SYNONYMS[modality]
    # Longest first, because `red` is a part of `red edge 1`.
    ordered = sorted(chain(*table.values()), key=len, reverse=True)
    pattern = re.compile(f"{_BEFORE}(?:{'|'.join(ordered).replace(' ', '[-_ ]?')}){_AFTER}", re.IGNORECASE)
    written = [_plain(match[0]) for text in texts for match in pattern.finditer(text)]
    return tuple(dict.fromkeys(band for name in written for band in table if name in map(_plain, table[band])))


def _plain(name: str) -> str:
    return re.sub("[-_ ]", "", name).lower()


def other_modality(modality: str, texts: Collection[str]) -> str:
    """Return another modality whose bands texts name; "" where there is none."""
    others = [name for name in PRODUCT_NAMES if name != modality]
    return next((name for name in others if names_in(name, texts, (), synonyms=False)), "")


def _product_pattern(name: str) -> re.Pattern[str]:
    without_zero = re.sub(r"^([A-Za-z]+)0(?=\d)", r"\g<1>0?", re.escape(name))
    return re.compile(f"{_BEFORE}{without_zero}{_AFTER}", re.IGNORECASE)


def needed_bands(wanted: Iterable[str], known: Collection[str], optional: Iterable[Collection[str]]) -> list[str]:
    """The bands that a scene with `known` ones must have: all wanted, without optional groups of which it has none.

    If it has none of the wanted bands at all, it must have all of them.
    """
    absent = {name for group in optional if not set(group) & set(known) for name in group}
    wanted = list(wanted)
    return [name for name in wanted if name not in absent] or wanted
