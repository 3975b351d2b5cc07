"""What BigEarthNet states about itself: numbers of pairs, classes of known patches, statistics of the bands."""

from collections.abc import Mapping, Sequence

from fusmae.data.index import SPLITS
from fusmae.sources.shared.source import Facts, statistics_of

# Counted in the complete tables of v2, by country: pairs in train, validation and test, without and with snow, cloud or
# cloud shadow, and MGRS tiles.
_V2: Mapping[str, tuple[tuple[int, int, int], tuple[int, int, int], str]] = {
    "Austria": ((24972, 10649, 8176), (855, 546, 693), "33TWM 33TWN 33TXN 33UUP 33UWP 33UWQ 33UXP 33UXQ"),
    "Belgium": ((7837, 3217, 142), (111, 5, 2), "31UER 31UGR 31UGS"),
    "Finland": (
        (74293, 40132, 40802),
        (28532, 14372, 13818),
        "34VDM 34VDN 34VDR 34VER 34WFS 34WFT 34WFU 34WFV 35VLG 35VLJ 35VNH 35VNJ 35VNK 35VNL 35VPJ 35VPK "
        "35WPN 35WPP 35WPR 36VVQ 36VVR",
    ),
    "Ireland": ((22482, 12687, 13157), (2096, 649, 634), "29UNB 29UPA 29UPB 29UPU 29UPV"),
    "Kosovo": ((849, 487, 280), (363, 115, 106), "34TEN"),
    "Lithuania": ((23170, 12128, 13067), (1007, 750, 1416), "34UDG 34UEG 35ULA 35ULB 35UMA 35UMB 35VLC"),
    "Luxembourg": ((1888, 1131, 441), (117, 33, 13), "31UGR"),
    "Portugal": ((43721, 22862, 23209), (60, 3, 0), "29SNB 29SNC 29SND"),
    "Serbia": ((36967, 17906, 18512), (1527, 753, 860), "34TCR 34TCS 34TEN 34TEP 34TEQ 34TFN"),
    "Switzerland": ((1692, 1143, 2039), (5, 9, 0), "32TMT"),
}

V2_COUNTRIES_OF_TILE: Mapping[str, tuple[str, ...]] = {
    tile: tuple(country for country, (*_, others) in _V2.items() if tile in others.split())
    for *_, tiles in _V2.values()
    for tile in tiles.split()
}
"""Countries by MGRS tile in the complete tables of v2."""

V2_CHECKED = (
    "the S1 name has the S2 name's tile, column and row, and a date within 7 days; the name in version 1 has its "
    "satellite, date, column and row; the country is one of the tile's; no name occurs twice"
)
"""Description of what `v2` compares in its table."""

V2_NOT_CHECKED = (
    "S1 names exchanged between dates of one place that are less than a week apart; countries in tiles 31UGR (Belgium, "
    "Luxembourg) and 34TEN (Serbia, Kosovo); classes, except by the checks `labels` (places with several dates) and "
    "`maps`; splits, except their numbers and that no place is in two"
)
"""Description of what the table states only once, so that a mistake in it can't be seen there."""

# Copied from v2's table. Every class occurs in at least one patch, so that a class map shifted by one is found.
_V2_LABELS: Mapping[str, tuple[str, ...]] = {
    "S2A_MSIL2A_20170617T113321_N9999_R080_T29UPU_63_14": (  # Ireland, validation
        "Natural grassland and sparsely vegetated areas",
        "Moors, heathland and sclerophyllous vegetation",
        "Inland wetlands",
    ),
    "S2A_MSIL2A_20170617T113321_N9999_R080_T29UPU_66_78": (  # Ireland, train
        "Coniferous forest",
        "Beaches, dunes, sands",
        "Marine waters",
    ),
    "S2A_MSIL2A_20170818T103021_N9999_R108_T32TMT_48_83": ("Pastures", "Mixed forest"),  # Switzerland, train
    "S2A_MSIL2A_20171002T112111_N9999_R037_T29SNC_34_67": ("Agro-forestry areas",),  # Portugal, test
    "S2A_MSIL2A_20171208T093351_N9999_R136_T34TEN_17_69": (  # Kosovo, validation
        "Broad-leaved forest",
        "Natural grassland and sparsely vegetated areas",
        "Transitional woodland, shrub",
    ),
    "S2A_MSIL2A_20180508T104031_N9999_R008_T31UGS_17_72": (  # Belgium, validation
        "Coniferous forest",
        "Mixed forest",
        "Inland waters",
    ),
    "S2B_MSIL2A_20170923T100019_N9999_R122_T33TWM_27_26": (  # Austria, test
        "Pastures",
        "Broad-leaved forest",
        "Mixed forest",
    ),
    "S2B_MSIL2A_20170924T093019_N9999_R136_T35VNH_80_08": (  # Finland, train
        "Industrial or commercial units",
        "Inland waters",
    ),
    "S2B_MSIL2A_20170927T094019_N9999_R036_T35ULB_71_13": ("Arable land", "Mixed forest"),  # Lithuania, validation
    "S2B_MSIL2A_20171015T104009_N9999_R008_T31UGR_19_79": (  # Luxembourg, train
        "Urban fabric",
        "Complex cultivation patterns",
        "Broad-leaved forest",
    ),
    "S2B_MSIL2A_20180326T112109_N9999_R037_T29SNB_80_88": ("Coastal wetlands",),  # Portugal, train
    "S2B_MSIL2A_20180502T093039_N9999_R136_T34TEP_63_80": (  # Serbia, train
        "Urban fabric",
        "Land principally occupied by agriculture, with significant areas of natural vegetation",
        "Transitional woodland, shrub",
    ),
    "S2B_MSIL2A_20180515T112109_N9999_R037_T29SND_18_45": (  # Portugal, validation
        "Arable land",
        "Permanent crops",
        "Complex cultivation patterns",
    ),
}

# Copied from the label files of published v1 patches, and merged to the 19 classes by hand.
_V1_LABELS: Mapping[str, tuple[str, ...]] = {
    "S2A_MSIL2A_20170613T101031_87_48": (
        "Arable land",
        "Land principally occupied by agriculture, with significant areas of natural vegetation",
    ),
    "S2A_MSIL2A_20170617T113321_36_85": ("Arable land", "Pastures"),
    "S2A_MSIL2A_20170617T113321_4_55": ("Pastures",),
    "S2A_MSIL2A_20171002T112112_49_25": (
        "Arable land",
        "Pastures",
        "Land principally occupied by agriculture, with significant areas of natural vegetation",
        "Agro-forestry areas",
    ),
    "S2A_MSIL2A_20171121T112351_61_0": (
        "Moors, heathland and sclerophyllous vegetation",
        "Transitional woodland, shrub",
    ),
    "S2A_MSIL2A_20171221T112501_56_35": (
        "Complex cultivation patterns",
        "Land principally occupied by agriculture, with significant areas of natural vegetation",
        "Broad-leaved forest",
        "Transitional woodland, shrub",
    ),
    "S2B_MSIL2A_20170906T101019_82_41": ("Marine waters",),
    "S2B_MSIL2A_20170924T93020_69_24": (
        "Coniferous forest",
        "Mixed forest",
        "Transitional woodland, shrub",
        "Inland wetlands",
        "Inland waters",
    ),
    "S2B_MSIL2A_20180515T112109_51_5": ("Urban fabric",),
}

KNOWN_LABELS: Mapping[str, tuple[str, ...]] = {**_V1_LABELS, **_V2_LABELS}
"""Classes of some pairs of both versions by key."""

STATISTICS = statistics_of(
    {
        "s1": {"VV": (-12.619993741972035, 5.115911777546365), "VH": (-19.29044597721542, 5.464428464912864)},
        "s2": {
            "B01": (340.76769064, 554.81258967),
            "B02": (429.9430203, 572.41639287),
            "B03": (614.21682446, 582.87945694),
            "B04": (590.23569706, 675.88746967),
            "B05": (950.68368468, 729.89827633),
            "B06": (1792.46290469, 1096.01480586),
            "B07": (2075.46795189, 1273.45393088),
            "B08": (2218.94553375, 1365.45589904),
            "B8A": (2266.46036911, 1356.13789355),
            "B09": (2246.0605464, 1302.3292881),
            "B11": (1594.42694882, 1079.19066363),
            "B12": (1009.32729131, 818.86747235),
        },
    }
)
"""Mean and standard deviation of the bands over the whole of v1, as v1's published models use them."""

V1_FACTS = Facts(
    counts={"train": 269_695, "validation": 123_723, "test": 125_866},
    labels=_V1_LABELS,
    statistics=STATISTICS,
    cross_checked="S1 and S2 names have the same column and row and dates within 7 days; no name occurs twice",
    not_checked="classes, which only one file per patch states; splits, except their numbers",
)
"""What v1 states about its pairs without snow and clouds and with at least one class: 519,284 of 590,326."""


def v2_facts(countries: Sequence[str], *, snow_and_clouds: bool) -> Facts:
    """Return what v2 states about some countries, with the band statistics of v1, which shows the same ground.

    `countries` are names as the table spells them, or empty for all; `snow_and_clouds` includes pairs with snow, cloud
    or cloud shadow.
    """
    stated = [_V2[country] for country in countries or _V2 if country in _V2]
    rows = [row for clear, flagged, _ in stated for row in ((clear, flagged) if snow_and_clouds else (clear,))]
    return Facts(
        counts=dict(zip(SPLITS, map(sum, zip(*rows, strict=True)), strict=True)) if rows else None,
        labels=_V2_LABELS,
        statistics=STATISTICS,
        cross_checked=V2_CHECKED,
        not_checked=V2_NOT_CHECKED,
        has_labels_by_place=True,
    )
