"""The rasters that a STAC item names, with what it states of their bands: names, scale, offset, nodata, units.

Bands are described by `bands` (STAC 1.1), or by `eo:bands` and `raster:bands` (STAC 1.0). What an item states is taken
where the file itself states nothing; statements that contradict one another are refused.
"""

import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

import rasterio
from rasterio.errors import RasterioError

from fusmae.errors import InputError
from fusmae.inference.scene.files import ENDINGS, PICTURE
from fusmae.inference.scene.stac_item import WEB, SceneItem
from fusmae.modalities import Units
from fusmae.rasters.band_names import names_in, needed_bands
from fusmae.rasters.raster_file import in_units
from fusmae.rasters.s1_units import S1Units, stated_units
from fusmae.rasters.s2_offset import StatedOffset, is_offset_applied, offset_by_properties
from fusmae.runs.address import shown

# GDAL's options for an address: no list of its folder is asked for, and no files beside it.
_VSICURL = "/vsicurl?list_dir=no&empty_dir=yes&max_retry=3&retry_delay=1&connecttimeout=10&timeout=120&url="
_RASTER_TYPES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff")
# Beginnings of GDAL's texts that hold no address.
_PLAIN_REASONS = ("HTTP response code: ", "CURL error: ")
# Roles of assets that are pictures of a scene, or no pixels at all.
_NO_BANDS = {"thumbnail", "overview", "visual", "metadata"}
_MOST_LISTED = 30
# rasterio logs GDAL's errors by it, at the level INFO and with the address.
_GDALS_LOGGER = "rasterio._env"
MEND = "save the item as a file, correct it, and give the file"
"""What to do where an item is wrong about its assets."""


@dataclass(frozen=True)
class AssetBand:
    """What an item states about one band of an asset; None where it states nothing."""

    names: tuple[str, ...] = ()  # product names that the band may have; one if it is known
    units: S1Units | None = None  # units of backscatter
    scale: float | None = None  # factor of stored numbers
    offset: float | None = None  # number that is added after the multiplication
    nodata: float | None = None  # stored number that means nodata


@dataclass(frozen=True)
class ItemAsset:
    """A raster that an item names: a file of this machine, or an object on the network."""

    item: str  # identifier of the item
    key: str  # name of the asset in the item
    href: str = field(repr=False)  # path or address, which may contain a signature
    is_jp2: bool  # whether it is JPEG 2000, else GeoTIFF
    bands: tuple[AssetBand, ...]  # what the item states about the bands, in the order of the file

    def __str__(self) -> str:
        return f"{self.item}/{self.key}"

    @property
    def name(self) -> str:
        """Name for messages and lists of sources."""
        return str(self)

    @property
    def file(self) -> Path | None:
        """The file of this machine; None for an object on the network."""
        return None if self._scheme else Path(self.href)

    @property
    def identity(self) -> list[str]:
        """What the pixels depend on, without a signature, which every fetch of the item renews."""
        return [self.item, self.key, urlsplit(self.href)._replace(query="").geturl(), repr(self.bands)]

    def band(self, index: int) -> AssetBand:
        """What the item states about the band with a number in the file, from 1."""
        return self.bands[index - 1] if index <= len(self.bands) else AssetBand()

    def without_offsets(self) -> "ItemAsset":
        """The same asset, as if the item stated no offset of its bands."""
        return replace(self, bands=tuple(replace(band, offset=None) for band in self.bands))

    def open(self) -> Any:
        """Open the raster, as a dataset of rasterio that also states what the item states.

        Raises:
            InputError: it can't be opened, or states something else than the item.
        """
        logging.getLogger(_GDALS_LOGGER).addFilter(_has_no_address)
        address = _VSICURL + quote(self.href, safe="") if self._scheme in WEB else self.href
        # Files beside a GeoTIFF on this machine may hold its mask.
        options = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"} if self._scheme else {}
        try:
            with rasterio.Env(**options):
                # One format: others, such as VRT, can name further files and addresses.
                dataset = rasterio.open(address, driver="JP2OpenJPEG" if self.is_jp2 else "GTiff")
        except RasterioError as error:
            raise self.unreadable(error) from None
        return DescribedRaster(dataset, self)

    def unreadable(self, error: Exception) -> InputError:
        """The error for an asset that GDAL can't read; of GDAL's text only what holds no address."""
        text = str(error.__cause__ or error)
        if not self._scheme:
            reason, hint = text, "check the file: it may be absent, cut short or of another format"
        else:
            is_plain = text.startswith(_PLAIN_REASONS) and "://" not in text
            reason, hint = text if is_plain else "", "check the address and the network"
            if is_plain and text.split()[-1] in ("401", "403"):
                hint = "its signature may have expired, or reading needs one: fetch the item again"
        if self._scheme == "s3":
            hint = (
                "s3 needs credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE), or for public "
                "objects AWS_NO_SIGN_REQUEST=YES; AWS_S3_ENDPOINT names a server other than Amazon's"
            )
        return InputError(
            f"Asset {self.key} of {self.item} can't be read.",
            got=f"{shown(self.href)}{': ' * bool(reason)}{reason}",
            expected=f"a whole {'JPEG 2000 file' if self.is_jp2 else 'GeoTIFF'} that GDAL can read",
            hint=hint,
        )

    @property
    def _scheme(self) -> str:
        scheme = urlsplit(self.href).scheme.lower()
        return scheme if scheme in (*WEB, "s3") else ""


class DescribedRaster:
    """An open dataset of rasterio; where the file states no scale, offset or nodata, it states those of the item."""

    def __init__(self, dataset: Any, asset: ItemAsset) -> None:
        self._dataset = dataset
        self.name = str(asset)
        if len(asset.bands) > dataset.count:
            raise contradiction(asset, f"bands {dataset.count}", str(len(asset.bands)))
        if strange := [band.scale for band in asset.bands if band.scale is not None and not 0 < band.scale < math.inf]:
            raise InputError(
                f"The item {asset.item} states a scale of {asset.key} that makes no pixels.",
                got=strange[0],
                expected="a scale above 0",
                hint=MEND,
            )
        bands = [asset.band(index) for index in dataset.indexes]
        scales, offsets = [], []
        for scale, offset, band in zip(dataset.scales, dataset.offsets, bands, strict=True):
            is_stated = (scale, offset) != (1.0, 0.0)
            scales.append(_agreed(asset, "scale", scale if is_stated else None, band.scale, 1.0))
            offsets.append(_agreed(asset, "offset", offset if is_stated else None, band.offset, 0.0))
        self.scales, self.offsets = tuple(scales), tuple(offsets)
        self.nodatavals = tuple(
            _agreed(asset, "nodata", own, band.nodata, None)
            for own, band in zip(dataset.nodatavals, bands, strict=True)
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def __enter__(self) -> "DescribedRaster":
        return self

    def __exit__(self, *_: object) -> None:
        self._dataset.close()


def item_assets(
    item: SceneItem, modality: str, wanted: Collection[str], optional: Sequence[Collection[str]] = ()
) -> list[ItemAsset]:
    """The assets of an item that hold wanted bands of a modality; of several for a band, those that are read best.

    Of `optional` groups of bands the item may have none. An asset on this machine or on the web goes before one that
    can't be read, and a GeoTIFF before JPEG 2000, of which much more is read for a part.

    Raises:
        InputError: bands are missing, or their assets can't be read from where they are.
    """
    rasters = {key: asset for key, asset in item.item.assets.items() if _is_raster(key, asset)}
    bands = {key: _asset_bands(modality, key, asset, wanted) for key, asset in rasters.items()}
    places: dict[str, str | InputError] = {}
    for key, asset in rasters.items():
        try:
            places[key] = item.resolved(key, str(asset.href))
        except InputError as error:
            places[key] = error

    def rank(key: str) -> tuple[bool, bool]:
        return isinstance(places[key], str), not _is_jp2(rasters[key])

    chosen = set()
    for name in wanted:
        if holding := [key for key in rasters if any(name in band.names for band in bands[key])]:
            best = max(map(rank, holding))
            chosen |= {key for key in holding if rank(key) == best}
    known = {band.names[0] for key in chosen for band in bands[key] if len(band.names) == 1}
    missing = [name for name in needed_bands(wanted, known, optional) if name not in known]
    if missing:
        raise InputError(
            f"The {modality} item {item.id} lacks {'bands' if len(missing) > 1 else 'band'} {', '.join(missing)}.",
            got=_described(bands) or "no asset that is a GeoTIFF or JPEG 2000 file",
            expected=f"assets of {', '.join(wanted)}, by band names, common names or the assets' own",
            hint="give an item of another collection, or files with the missing bands",
        )
    found = []
    for key in (key for key in rasters if key in chosen):
        place = places[key]
        if isinstance(place, InputError):
            raise place
        found.append(ItemAsset(item.id, key, place, _is_jp2(rasters[key]), bands[key]))
    return found


def item_offset(item: SceneItem, modality: str, bands: Iterable[AssetBand], units: Units) -> StatedOffset | None:
    """The number that an item states was added to all digital numbers of its bands; None where it states nothing.

    An offset of the bands counts before the processing baseline, which says what the agency delivered.

    Raises:
        InputError: two statements contradict one another.
    """
    names = [str(item.properties.get("s2:product_uri")), item.id]
    by_properties = offset_by_properties(item.properties, names, f"the item {item.id}")
    by_bands = {_added(band, units) for band in bands}
    if by_bands == {None}:
        return by_properties
    added = next(iter(by_bands))
    if len(by_bands) == 1 and added is not None:
        # Archives that take the offset off keep the agency's baseline.
        is_taken_off = added == 0 and is_offset_applied(item.properties) is None
        if by_properties is None or by_properties.offset == added or is_taken_off:
            return StatedOffset(added, f"the item {item.id}, of its bands,")
    of_bands = ", ".join(sorted("nothing" if added is None else f"{-added:g} to add" for added in by_bands))
    raise InputError(
        f"The item {item.id} contradicts itself about its offset.",
        got=f"of its bands: {of_bands}"
        + (f"; {by_properties.source}: {-by_properties.offset:g} to add" if by_properties else ""),
        expected="one offset for all bands",
        hint=f"say which is right: --offset {modality}=1000 takes off what processing baselines from 04.00 on add, and "
        f"--offset {modality}=0 takes off nothing, for pixels from which it was taken off before",
    )


def _added(band: AssetBand, units: Units) -> int | None:
    # Programs that write items from files state a scale of 1 and an offset of 0 where the file states neither.
    if band.offset is None or (band.offset == 0 and band.scale in (None, 1)):
        return None
    return -round(in_units(1.0 if band.scale is None else band.scale, band.offset, units)[1])


def _is_raster(key: str, asset: Any) -> bool:
    if set(asset.roles or ()) & _NO_BANDS or PICTURE.search(key):
        return False
    return str(asset.media_type or "").lower().startswith(_RASTER_TYPES) or _suffix(asset) in ENDINGS


def _is_jp2(asset: Any) -> bool:
    return _suffix(asset) == ".jp2" or "jp2" in str(asset.media_type or "").lower()


def _suffix(asset: Any) -> str:
    return PurePosixPath(urlsplit(str(asset.href)).path).suffix.lower()


def _asset_bands(modality: str, key: str, asset: Any, wanted: Collection[str]) -> tuple[AssetBand, ...]:
    """What is stated of an asset's bands; of an asset without a list of bands, what is stated of the asset."""
    fields: Mapping[str, Any] = asset.extra_fields
    lists = [value for name in ("bands", "eo:bands", "raster:bands") if isinstance(value := fields.get(name), list)]
    count = max(map(len, lists), default=1)
    found = []
    for index in range(count):
        # A band's own field counts before the asset's, which is for all of its bands.
        facts = dict(fields)
        if count == 1:
            facts |= {"title": asset.title, "description": asset.description}
        for one in lists:
            if index < len(one) and isinstance(one[index], dict):
                facts |= one[index]
        # Programs that describe any file name its bands b1, b2 and so on, in their order.
        name = None if facts.get("name") == f"b{index + 1}" else facts.get("name")
        texts = [name, key if count == 1 else None, facts.get("eo:common_name", facts.get("common_name"))]
        names = [names_in(modality, (str(text),), wanted) for text in texts if text]
        names.append(names_in(modality, (str(facts.get("description")),), wanted, synonyms=False))
        certain = next((one for one in names if len(one) == 1), None)
        units = [str(facts.get(field) or "") for field in ("unit", "name", "title", "description")]
        found.append(
            AssetBand(
                certain or next(filter(None, names), ()),
                stated_units(units[:1]) or stated_units([*units[1:], key]),
                *(_number(facts, field) for field in ("scale", "offset", "nodata")),
            )
        )
    return tuple(found)


def _number(facts: Mapping[str, Any], field: str) -> float | None:
    """A number of a band, under the name of STAC 1.1's extension or of 1.0's; nodata may be a text such as `nan`."""
    value = facts.get(f"raster:{field}", facts.get(field))
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _agreed(asset: ItemAsset, what: str, own: float | None, stated: float | None, default: Any) -> Any:
    """What a file states, else what its item states."""
    if own is None:
        return default if stated is None else stated
    if stated is None or math.isclose(own, stated, rel_tol=1e-6) or (math.isnan(own) and math.isnan(stated)):
        return own
    raise contradiction(asset, f"{what} {own:g}", f"{stated:g}")


def _has_no_address(record: logging.LogRecord) -> bool:
    return "/vsicurl?" not in record.getMessage()


def contradiction(asset: ItemAsset, in_file: str, in_item: str, hint: str = "") -> InputError:
    """The error for an asset whose file states something else than its item."""
    return InputError(
        f"Asset {asset.key} of {asset.item} contradicts its item.",
        got=f"{in_file} in the file, {in_item} in the item",
        expected="the same, or one that states nothing",
        hint=hint or f"find out which is right; {MEND}",
    )


def _described(bands: Mapping[str, Sequence[AssetBand]]) -> str:
    texts = [f"{key} ({', '.join('/'.join(band.names) or '?' for band in found)})" for key, found in bands.items()]
    more = f" and {len(texts) - _MOST_LISTED} more" if len(texts) > _MOST_LISTED else ""
    return ", ".join(texts[:_MOST_LISTED]) + more
