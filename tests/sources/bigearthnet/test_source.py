import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fusmae.data.index import validate_index
from fusmae.errors import SourceError
from fusmae.modalities import BIGEARTHNET
from fusmae.sources import open_source
from fusmae.sources.bigearthnet.source import V1_LISTS, BigEarthNetSource
from fusmae.sources.patches import v2
from fusmae.sources.patches.nomenclature import CLASSES
from fusmae.sources.patches.places import ground_cell, parse_patch_name
from fusmae.sources.sample.source import SampleSource

V2 = BigEarthNetSource(2, [], snow_and_clouds=False)
V1 = BigEarthNetSource(1, [], snow_and_clouds=False)


def edited(path: Path, **columns) -> None:
    table = pd.read_parquet(path)
    table.assign(**columns).to_parquet(path)


def test_params_open_this_source():
    source = open_source("bigearthnet", {"version": 2, "countries": ["Austria"], "snow_and_clouds": True})
    assert isinstance(source, BigEarthNetSource)
    assert (source.name, source.task.classes, source.is_synthetic) == ("bigearthnet", CLASSES, False)
    assert "CDLA-Permissive-1.0" in source.licence


def test_facts_need_no_raw_data(tmp_path: Path):
    for source in (V1, V2):
        facts = source.facts(tmp_path / "absent")
        assert facts.counts
        assert facts.labels
        assert facts.statistics


# --- version 2


def test_v2_pairs_are_those_of_the_sample_with_their_official_splits(v2_raw: Path, sample_pairs):
    sample = {pair.key: pair for pair in sample_pairs}
    pairs = BigEarthNetSource(2, [], snow_and_clouds=True).pairs(v2_raw)
    assert len(pairs) == 24
    assert [pair.key for pair in pairs] == sorted(pair.key for pair in pairs)
    official = pd.concat([pd.read_parquet(v2_raw / name) for name in (v2.TABLE, v2.FLAGGED_TABLE)])
    split = dict(zip(official["patch_id"], official["split"], strict=True))
    for pair in pairs:
        known = sample[pair.key]
        stated = ("labels", "date", "country", "is_snowy", "is_cloudy")
        assert [getattr(pair, name) for name in stated] == [getattr(known, name) for name in stated]
        assert pair.split == split[pair.key]
        assert (v2_raw / pair.files["s1"]).is_dir()
        assert (v2_raw / pair.files["s2"]).is_dir()
    validate_index(pairs, V2.task)


def test_v2_pixels_are_those_of_the_sample(v2_raw: Path, sample_raw: Path, sample_pairs):
    sample = {pair.key: pair for pair in sample_pairs}
    for pair in BigEarthNetSource(2, [], snow_and_clouds=True).pairs(v2_raw):
        bands, known = V2.read(v2_raw, pair), SampleSource().read(sample_raw, sample[pair.key])
        assert list(bands) == [band for modality in BIGEARTHNET.values() for band in modality.bands]
        for band, pixels in known.items():
            np.testing.assert_array_equal(bands[band], pixels)
            assert bands[band].dtype == pixels.dtype


def test_flagged_pairs_are_taken_only_when_asked_for(v2_raw: Path):
    clear, both = V2.pairs(v2_raw), BigEarthNetSource(2, [], snow_and_clouds=True).pairs(v2_raw)
    assert 0 < len(clear) < len(both)
    assert {pair.key for pair in both} - {pair.key for pair in clear} == {
        pair.key for pair in both if pair.is_snowy or pair.is_cloudy
    }


def test_flagged_pairs_in_the_first_table_are_left_out_too(v2_copy: Path):
    table = pd.read_parquet(v2_copy / v2.TABLE)
    edited(v2_copy / v2.TABLE, contains_seasonal_snow=[True, *[False] * (len(table) - 1)])
    assert len(V2.pairs(v2_copy)) == len(table) - 1


def test_only_the_chosen_countries_are_taken(v2_raw: Path):
    countries = {pair.country for pair in V2.pairs(v2_raw)}
    for country in countries:
        chosen = BigEarthNetSource(2, [country], snow_and_clouds=False).pairs(v2_raw)
        assert {pair.country for pair in chosen} == {country}


def test_an_unknown_country_is_refused_with_the_known_ones(shared_bigearthnet: Path):
    with pytest.raises(SourceError, match="no country Atlantis") as caught:
        BigEarthNetSource(2, ["Austria", "Atlantis"], snow_and_clouds=False).pairs(shared_bigearthnet)
    for country in ("Austria", "Kosovo", "Switzerland"):
        assert country in str(caught.value)


def test_without_flags_and_countries_a_table_still_gives_pairs(v2_copy: Path):
    table = pd.read_parquet(v2_copy / v2.TABLE)
    table[["patch_id", "labels", "split", "s1_name"]].to_parquet(v2_copy / v2.TABLE)
    assert {pair.country for pair in V2.pairs(v2_copy)} == {""}
    with pytest.raises(SourceError, match="the table has no countries"):
        BigEarthNetSource(2, ["Finland"], snow_and_clouds=False).pairs(v2_copy)


def test_an_absent_table_is_fetched_next(tmp_path: Path):
    with pytest.raises(SourceError, match=r"no table .*metadata\.parquet(.|\n)*dvc repro -f -s fetch"):
        V2.pairs(tmp_path)


def test_the_absent_table_of_flagged_pairs_is_named_with_its_page(v2_copy: Path):
    (v2_copy / v2.FLAGGED_TABLE).unlink()
    assert V2.pairs(v2_copy)
    with pytest.raises(SourceError, match=r"snow_cloud_or_shadow\.parquet(.|\n)*zenodo(.|\n)*snow_and_clouds"):
        BigEarthNetSource(2, [], snow_and_clouds=True).pairs(v2_copy)


def test_what_is_no_table_is_refused(v2_copy: Path):
    (v2_copy / v2.TABLE).write_bytes(b"<html>404</html>")
    with pytest.raises(SourceError, match=r"metadata\.parquet cannot be read"):
        V2.pairs(v2_copy)


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_cut_table_is_refused(v2_copy: Path, share):
    data = (v2_copy / v2.TABLE).read_bytes()
    (v2_copy / v2.TABLE).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SourceError, match=r"metadata\.parquet cannot be read"):
        V2.pairs(v2_copy)


def test_a_table_of_something_else_is_refused(v2_copy: Path):
    pd.DataFrame({"name": ["a"]}).to_parquet(v2_copy / v2.TABLE)
    with pytest.raises(SourceError, match=r"not BigEarthNet v2's table(.|\n)*patch_id"):
        V2.pairs(v2_copy)


def test_an_unknown_label_is_refused(v2_copy: Path):
    table = pd.read_parquet(v2_copy / v2.TABLE)
    edited(v2_copy / v2.TABLE, labels=[["Lava"], *list(table["labels"])[1:]])
    with pytest.raises(SourceError, match="Lava"):
        V2.pairs(v2_copy)


def test_the_v1_spelling_of_a_class_is_refused_in_v2(v2_copy: Path):
    table = pd.read_parquet(v2_copy / v2.TABLE)
    edited(v2_copy / v2.TABLE, labels=[["Transitional woodland/shrub"]] * len(table))
    with pytest.raises(SourceError, match="woodland/shrub"):
        V2.pairs(v2_copy)


def test_an_unknown_split_is_refused(v2_copy: Path):
    edited(v2_copy / v2.TABLE, split="val")
    with pytest.raises(
        SourceError, match=r"\d+ of \d+ rows have a split that v2 does not know(.|\n)*with 'val'(.|\n)*validation"
    ):
        V2.pairs(v2_copy)


# --- version 1


def test_v1_pairs_are_those_of_the_sample_with_their_official_splits(v1_raw: Path, sample_raw: Path, sample_pairs):
    sample = {pair.key: pair for pair in sample_pairs}
    pairs = V1.pairs(v1_raw)
    # The sixth is under snow: the official lists leave it out.
    assert len(pairs) == 5
    listed = {
        line.partition(",")[0]: split
        for split, file in V1_LISTS.items()
        for line in (v1_raw / file.name).read_text().splitlines()
    }
    for pair in pairs:
        known = sample[pair.key]
        assert pair.labels == known.labels
        assert pair.split == listed[pair.key]
        assert abs((pair.date - known.date).total_seconds()) < 60
        for band, pixels in SampleSource().read(sample_raw, known).items():
            np.testing.assert_array_equal(V1.read(v1_raw, pair)[band], pixels)


def test_v1_and_v2_place_the_same_ground_in_the_same_cell(v1_raw: Path, shared_bigearthnet: Path):
    table = pd.read_parquet(shared_bigearthnet / v2.TABLE, columns=["s2v1_name", "s1_name"]).set_index("s2v1_name")
    known = [pair for pair in V1.pairs(v1_raw) if pair.key in table.index]
    assert known
    for pair in known:
        # v1 writes 4_55 where v2 writes 04_55, though not in the names of S1 patches.
        assert ground_cell(parse_patch_name(table.loc[pair.key, "s1_name"])) == pair.place


def test_v1_knows_no_countries_and_no_snow():
    with pytest.raises(SourceError, match="only be chosen in version 2"):
        BigEarthNetSource(1, ["Finland"], snow_and_clouds=False)
    with pytest.raises(SourceError, match="official lists leave them out"):
        BigEarthNetSource(1, [], snow_and_clouds=True)


def labels_file(raw: Path, key: str) -> Path:
    return raw / "BigEarthNet-v1.0" / key / f"{key}_labels_metadata.json"


def relabelled(raw: Path, key: str, labels: list[str]) -> None:
    path = labels_file(raw, key)
    path.write_text(json.dumps({**json.loads(path.read_text()), "labels": labels}))


def test_v1_spelling_becomes_the_class(v1_copy: Path):
    key = V1.pairs(v1_copy)[0].key
    relabelled(v1_copy, key, ["Transitional woodland/shrub", "Airports"])
    assert {pair.key: pair.labels for pair in V1.pairs(v1_copy)}[key] == ("Transitional woodland, shrub",)


def test_v1_pairs_without_any_class_are_left_out(v1_copy: Path):
    key = V1.pairs(v1_copy)[0].key
    relabelled(v1_copy, key, ["Airports", "Bare rock"])
    assert key not in {pair.key for pair in V1.pairs(v1_copy)}


def test_an_unknown_v1_label_is_named_with_its_file(v1_copy: Path):
    key = V1.pairs(v1_copy)[0].key
    relabelled(v1_copy, key, ["Lava"])
    with pytest.raises(SourceError, match=rf"{key}_labels_metadata\.json(.|\n)*Lava"):
        V1.pairs(v1_copy)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"labels": 3}'])
def test_damaged_v1_labels_are_named(v1_copy: Path, text):
    path = labels_file(v1_copy, V1.pairs(v1_copy)[0].key)
    path.write_text(text)
    with pytest.raises(SourceError, match="holds no labels") as caught:
        V1.pairs(v1_copy)
    assert str(path) in str(caught.value)


def test_listed_v1_pairs_without_labels_are_counted(v1_copy: Path):
    labels_file(v1_copy, V1.pairs(v1_copy)[0].key).unlink()
    with pytest.raises(SourceError, match="1 of 5 listed patches have no labels"):
        V1.pairs(v1_copy)


def test_absent_v1_lists_and_folders_are_fetched_next(v1_copy: Path):
    shutil.rmtree(v1_copy / "BigEarthNet-v1.0")
    with pytest.raises(SourceError, match=r"no folder .*BigEarthNet-v1\.0(.|\n)*dvc repro -f -s fetch"):
        V1.pairs(v1_copy)
    (v1_copy / "bigearthnet-val.csv").unlink()
    with pytest.raises(SourceError, match=r"no list .*bigearthnet-val\.csv(.|\n)*dvc repro -f -s fetch"):
        V1.pairs(v1_copy)


def test_a_v1_list_of_s2_names_only_is_refused(v1_copy: Path):
    (v1_copy / "bigearthnet-train.csv").write_text("S2A_MSIL2A_20170717T113321_28_87\n")
    with pytest.raises(SourceError, match=r"line 1(.|\n)*S2 name,S1 name"):
        V1.pairs(v1_copy)


@pytest.mark.parametrize("column", ["patch_id", "labels", "split", "s1_name", "country", v2._SNOW])
def test_a_table_with_an_empty_cell_is_refused_and_the_patch_named(v2_raw: Path, tmp_path: Path, column: str):
    raw = tmp_path / "raw"
    raw.mkdir()
    table = pd.read_parquet(v2_raw / v2.TABLE)
    cells = table[column].astype(object)
    cells.iloc[2] = None
    table.assign(**{column: cells}).to_parquet(raw / v2.TABLE)
    key = "row 3" if column == "patch_id" else table["patch_id"].iloc[2]
    with pytest.raises(
        SourceError, match=rf"1 of {len(table)} rows have no {column}.\n.*{key}\n(.|\n)*repro -f -s fetch"
    ):
        V2.pairs(raw)
