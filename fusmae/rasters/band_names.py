"""What bands are called: product names, and the names that archives and tools give the same bands."""

import re
from collections.abc import Collection, Iterable, Mapping

PRODUCT_NAMES: Mapping[str, tuple[str, ...]] = {
    "s1": ("VV", "VH", "HH", "HV"),
    "s2": ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"),
}
"""Bands of a modality by their product names, whether a model takes them or not."""

# STAC's common names and Earth Search's asset keys, and the same words as other catalogues write them. A name of
# several bands is not read but shown with them: what one catalogue calls swir2 is B11, in another it is B12.
_SYNONYMS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "s2": {
        "coastal": ("B01",),
        "coastal aerosol": ("B01",),
        "blue": ("B02",),
        "green": ("B03",),
        "red": ("B04",),
        "red edge 1": ("B05",),
        "red edge 2": ("B06",),
        "red edge 3": ("B07",),
        "red edge 071": ("B05",),
        "red edge 075": ("B06",),
        "red edge 078": ("B07",),
        "red edge": ("B05", "B06", "B07"),
        "nir": ("B08",),
        "nir 1": ("B08", "B8A"),
        "nir 2": ("B08", "B8A"),
        "nir 08": ("B8A",),
        "nir 09": ("B09",),
        "cirrus": ("B10",),
        "swir": ("B11", "B12"),
        "swir 1": ("B11", "B12"),
        "swir 2": ("B11", "B12"),
        "swir 3": ("B11", "B12"),
        "swir 16": ("B11",),
        "swir 22": ("B12",),
    }
}
_BEFORE, _AFTER = "(?<![A-Za-z0-9])", "(?![A-Za-z0-9])"


def names_in(modality: str, texts: Iterable[str], wanted: Collection[str], *, synonyms: bool = True) -> tuple[str, ...]:
    """Product names of the bands that texts name: `B02` in `T33UUP_B02_10m`, `B2 (blue)` or `blue`.

    Product names go before synonyms. Nothing where the texts name none; several where they may name any of these.

    Args:
        modality: `s1` or `s2`; one that is not in the table has no names but those that are wanted.
        texts: descriptions, tags or a file's name.
        wanted: names that a model takes.
        synonyms: whether to read other names than those of products.
    """
    texts = tuple(texts)
    names = dict.fromkeys((*wanted, *PRODUCT_NAMES.get(modality, ())))
    found = tuple(name for name in names if any(_product_pattern(name).search(text) for text in texts))
    if found or not synonyms:
        return found
    table = _SYNONYMS.get(modality, {})
    if not table:
        return ()
    # The longest first: `red` is a part of `red edge 1`.
    ordered = sorted(table, key=len, reverse=True)
    pattern = re.compile(f"{_BEFORE}(?:{'|'.join(f'({_loose(name)})' for name in ordered)}){_AFTER}", re.IGNORECASE)
    groups = [match.lastindex for text in texts for match in pattern.finditer(text)]
    return tuple(dict.fromkeys(name for group in groups if group for name in table[ordered[group - 1]]))


def other_modality(modality: str, texts: Collection[str]) -> str:
    """Another modality whose bands texts name; "" where they name none."""
    others = [name for name in PRODUCT_NAMES if name != modality]
    return next((name for name in others if names_in(name, texts, (), synonyms=False)), "")


def _product_pattern(name: str) -> re.Pattern[str]:
    without_zero = re.sub(r"^([A-Za-z]+)0(?=\d)", r"\g<1>0?", re.escape(name))
    return re.compile(f"{_BEFORE}{without_zero}{_AFTER}", re.IGNORECASE)


def _loose(name: str) -> str:
    return name.replace(" ", "[-_ ]?")
