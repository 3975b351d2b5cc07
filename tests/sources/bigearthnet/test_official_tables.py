"""The complete real tables: what they hold is what our facts say, and their splits share no ground."""

import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from rasterio.warp import transform

from fusmae.data.index import Pair
from fusmae.sources.bigearthnet.source import BigEarthNetSource
from fusmae.sources.patches import v2
from fusmae.sources.patches.facts import V1_FACTS
from fusmae.sources.patches.nomenclature import CLASS_OF_V1_LABEL, CLASSES
from fusmae.sources.patches.places import centres, parse_patch_name, utm_corner

ALL = BigEarthNetSource(2, [], snow_and_clouds=True)


@pytest.fixture(scope="module")
def every_pair(shared_bigearthnet: Path) -> list[Pair]:
    return ALL.pairs(shared_bigearthnet)


def is_clear(pair: Pair) -> bool:
    return not (pair.is_snowy or pair.is_cloudy)


def test_counts_are_the_published_ones(every_pair: list[Pair], shared_bigearthnet: Path):
    clear = Counter(pair.split for pair in every_pair if is_clear(pair))
    assert clear == {"train": 237_871, "validation": 122_342, "test": 119_825}
    assert len(every_pair) == 549_488
    assert BigEarthNetSource(2, [], snow_and_clouds=False).facts(shared_bigearthnet).counts == clear
    assert ALL.facts(shared_bigearthnet).counts == Counter(pair.split for pair in every_pair)


def test_counts_of_v1_are_the_published_ones():
    assert V1_FACTS.counts == {"train": 269_695, "validation": 123_723, "test": 125_866}


def test_pairs_have_as_many_labels_and_the_rarest_classes_are_as_rare_as_the_authors_say(every_pair: list[Pair]):
    clear = [pair for pair in every_pair if is_clear(pair)]
    assert round(np.mean([len(pair.labels) for pair in clear]), 2) == 2.95
    train = Counter(label for pair in clear if pair.split == "train" for label in pair.labels)
    assert train.most_common()[:-3:-1] == [("Coastal wetlands", 670), ("Beaches, dunes, sands", 738)]


def test_counts_of_each_country_are_those_of_the_tables(every_pair: list[Pair], shared_bigearthnet: Path):
    counts: dict[tuple[str, bool], Counter[str]] = defaultdict(Counter)
    for pair in every_pair:
        for with_flagged in (True, False):
            if with_flagged or is_clear(pair):
                counts[pair.country, with_flagged][pair.split] += 1
    assert len(counts) == 20
    for (country, with_flagged), found in counts.items():
        facts = BigEarthNetSource(2, [country], snow_and_clouds=with_flagged).facts(shared_bigearthnet)
        assert facts.counts == {"train": 0, "validation": 0, "test": 0, **found}


def test_known_labels_are_the_tables_and_hold_every_class(every_pair: list[Pair], shared_bigearthnet: Path):
    known = ALL.facts(shared_bigearthnet).labels
    found = {pair.key: pair.labels for pair in every_pair if pair.key in known}
    assert found == known
    assert {name for names in known.values() for name in names} == set(CLASSES)
    clear = {pair.key for pair in every_pair if is_clear(pair)}
    assert known.keys() <= clear


@pytest.mark.parametrize("shift", range(1, 19))
def test_a_shifted_class_map_disagrees_with_every_known_patch(shift):
    def shifted(names: tuple[str, ...]) -> set[str]:
        return {CLASSES[(CLASSES.index(name) + shift) % 19] for name in names}

    for labels in (ALL.facts(Path()).labels, V1_FACTS.labels):
        for key, names in labels.items():
            assert shifted(names) != set(names), key


def test_known_labels_of_v1_are_those_beside_its_patches(sample_raw: Path, sample_pairs: list[Pair]):
    known = V1_FACTS.labels
    assert {pair.key: pair.labels for pair in sample_pairs if pair.key in known} == known
    assert {name for names in known.values() for name in names} <= set(CLASS_OF_V1_LABEL.values())


def test_published_statistics_hold_all_14_bands_with_the_means_of_the_dataset_s_paper():
    statistics = V1_FACTS.statistics
    means = {band: round(one.mean, 1) for bands in statistics.values() for band, one in bands.items()}
    assert means == {
        "VV": -12.6,
        "VH": -19.3,
        "B01": 340.8,
        "B02": 429.9,
        "B03": 614.2,
        "B04": 590.2,
        "B05": 950.7,
        "B06": 1792.5,
        "B07": 2075.5,
        "B08": 2218.9,
        "B8A": 2266.5,
        "B09": 2246.1,
        "B11": 1594.4,
        "B12": 1009.3,
    }
    assert round(statistics["s1"]["VV"].std, 2) == 5.12
    assert round(statistics["s1"]["VH"].std, 2) == 5.46


def test_labels_are_the_table_s_in_the_nomenclature_s_order(every_pair: list[Pair], shared_bigearthnet: Path):
    table = pd.read_parquet(shared_bigearthnet / v2.TABLE).sample(5000, random_state=0).set_index("patch_id")
    pairs = {pair.key: pair for pair in every_pair if pair.key in table.index}
    assert len(pairs) == 5000
    for key, row in table.iterrows():
        assert sorted(row["labels"]) == sorted(pairs[key].labels)
        assert list(pairs[key].labels) == sorted(pairs[key].labels, key=CLASSES.index)
        assert (row["split"], row["country"]) == (pairs[key].split, pairs[key].country)


def test_no_ground_cell_is_in_two_official_splits(every_pair: list[Pair]):
    splits: dict[str, set[str]] = defaultdict(set)
    for pair in every_pair:
        splits[pair.place].add(pair.split)
    assert len(splits) == 253_957
    assert all(len(found) == 1 for found in splits.values())


def test_official_test_patches_are_11_9_km_from_train_and_border_on_validation(every_pair: list[Pair]):
    from scipy.spatial import cKDTree

    cells = {pair.place: pair for pair in every_pair}
    of_split: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for pair in cells.values():
        of_split[pair.split].append((pair.lon, pair.lat))
    points = {
        split: np.stack(transform("EPSG:4326", "EPSG:3035", *zip(*found, strict=True)), axis=1)
        for split, found in of_split.items()
    }
    nearest = {
        (a, b): cKDTree(points[b]).query(points[a])[0].min()
        for a, b in (("test", "train"), ("test", "validation"), ("validation", "train"))
    }
    assert nearest["test", "train"] > 11_900
    # Nowhere less than a patch's side: no two splits show the same ground, not even where tiles overlap.
    assert 1_190 < nearest["test", "validation"] < 1_200
    assert 1_190 < nearest["validation", "train"] < 1_200


def test_corners_and_centres_are_exactly_those_of_the_real_files(v1_raw: Path, shared_bigearthnet: Path):
    layout = shared_bigearthnet / "one_patch_layout"
    paths = [*layout.glob("BigEarthNet-S*/*/*/*_[BV]*.tif"), *v1_raw.glob("BigEarthNet-S1-v1.0/*/*.tif")]
    assert len(paths) == 14 + 12
    for path in paths:
        patch = parse_patch_name(path.parent.name)
        with rasterio.open(path) as dataset:
            bounds = dataset.bounds
            assert utm_corner(patch) == (dataset.crs.to_epsg(), bounds.left, bounds.top)
            x, y = (bounds.left + bounds.right) / 2, (bounds.bottom + bounds.top) / 2
            (lon,), (lat,) = transform(dataset.crs, "EPSG:4326", [x], [y])
        assert centres([patch])[0] == pytest.approx((lon, lat), abs=1e-6)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
def test_all_pairs_need_less_than_1200_mb(shared_bigearthnet: Path):
    script = (
        "import sys; from pathlib import Path;"
        "from fusmae.sources.bigearthnet.source import BigEarthNetSource as S;"
        "assert len(S(2, [], True).pairs(Path(sys.argv[1]))) == 549_488;"
        # not getrusage: that counts this test's own memory in
        "print(next(l.split()[1] for l in Path('/proc/self/status').read_text().splitlines() if 'VmHWM' in l))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(shared_bigearthnet)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert int(done.stdout) < 1200 * 1000
