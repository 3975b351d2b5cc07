import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from fusmae.config.task import Task
from fusmae.data.index import read_index, write_index
from fusmae.data.shard_writer import write_shards
from fusmae.errors import CHECK_OF_FAULT, ConfigError, ShardError
from fusmae.examination.examine import CHECK_NAMES, examine_data, examine_index, summarise
from fusmae.modalities import BIGEARTHNET, BandGroup, Modality, modality_inputs
from fusmae.sources.folder.source import FolderSource
from fusmae.sources.sample.source import SampleSource
from fusmae.sources.shared.source import Facts

TABLES = Path(__file__).parents[3] / "shared" / "data" / "bigearthnet_v2"
MAX_GB = 2.0
COUNTS = {"train": 237_871, "validation": 122_342, "test": 119_825}


@pytest.fixture(scope="module")
def sample_shards(sample_raw, sample_pairs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("examine") / "shards"
    source = SampleSource()
    write_shards(
        sample_pairs,
        partial(source.read, sample_raw),
        folder,
        inputs=modality_inputs(BIGEARTHNET, 1200),
        task=source.task,
        shard_pairs=16,
    )
    return folder


@pytest.fixture
def examine_sample(sample_raw, sample_pairs, sample_shards):
    source = SampleSource()

    def run(tolerated):
        return examine_data(
            sample_pairs,
            source.task,
            source.facts(sample_raw),
            shards=sample_shards,
            tolerated=tolerated,
        )

    return run


def test_checks_are_those_that_can_be_tolerated_but_for_places(diagnose, pairs, classes):
    assert tuple(check.name for check in diagnose().checks) == CHECK_NAMES
    assert set(CHECK_OF_FAULT.values()) <= set(CHECK_NAMES)
    assert examine_index(
        pairs, Task(classes=classes), Facts(), tolerated=dict.fromkeys(set(CHECK_NAMES) - {"places"}, 1)
    )
    with pytest.raises(ConfigError, match=r"data.tolerated names places, which is no check(.|\n)*can be agreed to"):
        examine_index(pairs, Task(classes=classes), Facts(), tolerated={"places": 1})


def test_pairs_of_unknown_position_are_counted_beside_the_others(pairs, classes, tmp_path):
    known = [replace(pair, lon=10.0 + number, lat=50.0) for number, pair in enumerate(pairs)]
    write_index([*known[:-2], replace(known[-2], lon=None, lat=None), known[-1]], tmp_path / "index.parquet")
    checks = {
        check.name: check
        for check in examine_index(read_index(tmp_path / "index.parquet"), Task(classes=classes), Facts())
    }
    assert checks["neighbours"].got.endswith("positions of 1 pair unknown")


def test_files_of_another_ground_or_of_none_block_and_are_named(tmp_path):
    import rasterio
    from rasterio.transform import from_origin

    def write(path, names, crs="EPSG:32633", left=500_000):
        path.parent.mkdir(parents=True, exist_ok=True)
        profile = {"count": len(names), "height": 24, "width": 24, "dtype": "float32" if "VV" in names else "uint16"}
        with rasterio.open(
            path, "w", driver="GTiff", crs=crs, transform=from_origin(left, 5e6, 10, 10), **profile
        ) as file:
            random = np.random.default_rng(list(path.name.encode()))
            pixels = random.normal(-14, 3, (len(names), 24, 24)) if "VV" in names else random.integers(1, 9000, 576)
            file.write(np.broadcast_to(pixels.reshape(-1, 24, 24), (len(names), 24, 24)).astype(profile["dtype"]))
            file.descriptions = names

    raw = tmp_path / "raw"
    modalities = {
        "s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV", "VH")),)),
        "s2": Modality(units="DN", groups=(BandGroup(gsd_m=10, bands=("B02",)),)),
    }
    rows = ["key,labels,split,place"]
    changes = {"moved": {"left": 500_200}, "nowhere": {"crs": None}}
    for key in ("sound", "moved", "nowhere", *(f"p{number}" for number in range(6))):
        rows.append(f"{key},water,{('train', 'validation', 'test')[len(rows) % 3]},{key}")
        write(raw / "s1" / f"{key}.tif", ("VV", "VH"), **changes.get(key, {}))
        write(raw / "s2" / f"{key}.tif", ("B02",))
    (raw / "pairs.csv").write_text("\n".join(rows) + "\n")
    inputs = modality_inputs(modalities, 240)
    source = FolderSource(("water",), inputs=inputs)
    pairs, shards = source.pairs(raw), tmp_path / "shards"
    write_shards(pairs, partial(source.read, raw), shards, inputs=inputs, task=Task(classes=("water",)), shard_pairs=4)
    diagnosis = examine_data(pairs, Task(classes=("water",)), source.facts(raw), shards=shards, tolerated={})
    (check,) = [check for check in diagnosis.checks if check.name == "georeference"]
    assert (check.status, check.found, sorted(check.examples)) == ("blocks", 2, ["moved", "nowhere"])


def test_a_sound_dataset_does_not_block(diagnose):
    diagnosis = diagnose()
    assert not diagnosis.blocks
    assert summarise(diagnosis.checks) == "The examination finds nothing that blocks training."


def test_the_sample_does_not_block_and_needs_no_tolerance(examine_sample):
    diagnosis = examine_sample({})
    assert not diagnosis.blocks, summarise(diagnosis.checks)
    checks = {check.name: check for check in diagnosis.checks}
    assert checks["labels"].status == "passed", "the class map tests itself on known pairs"
    assert checks["constant"].found == 0
    assert checks["constant"].got == (
        "4 pairs with a band clipped to 1 or less throughout, as dark water is, which is no finding: "
        "B08 in 1, B06 in 2, B07 in 1, B8A in 1, B01 in 2, B09 in 2"
    )
    assert checks["histograms"].got == "14 bands within these limits"
    assert checks["typical"].got == "14 bands within these limits"
    assert "in 1 of 60 pairs" in checks["polarisation"].got
    assert "57 pairs hold no offset" in checks["offset"].got


def test_the_sample_with_an_offset_in_some_pairs_blocks(sample_pairs, sample_raw, tmp_path):
    source = SampleSource()
    raised = {pair.key for pair in sample_pairs[::4]}

    def read(pair):
        bands = source.read(sample_raw, pair)
        return {
            name: band + np.uint16(1000) if pair.key in raised and name not in ("VV", "VH") else band
            for name, band in bands.items()
        }

    write_shards(
        sample_pairs,
        read,
        tmp_path / "shards",
        inputs=modality_inputs(BIGEARTHNET, 1200),
        task=source.task,
        shard_pairs=16,
    )
    facts = source.facts(sample_raw)
    diagnosis = examine_data(sample_pairs, source.task, facts, shards=tmp_path / "shards", tolerated={})
    offset = next(check for check in diagnosis.checks if check.name == "offset")
    assert offset.status == "blocks"
    assert len(raised) - 3 <= offset.found <= len(raised)
    assert "the dataset is mixed" in offset.got


def _flat(changed):
    return changed(
        lambda bands: {"B05": np.full_like(bands["B05"], 700)}, only=lambda pair: pair.key in ("train01", "test02")
    )


def test_what_blocks_is_said_with_what_was_expected_and_what_to_do(diagnose, changed):
    diagnosis = diagnose(read=_flat(changed))
    assert [check.name for check in diagnosis.checks if check.blocks] == ["constant"]
    assert summarise(diagnosis.checks).splitlines() == [
        "The examination blocks training: 1 of 17 checks fails.",
        "constant: No band of a pair has one value only, unless it was clipped as dark water is.",
        "  got:      2 pairs with a band of one value: B05 in 2",
        "  expected: several values in each band of each pair",
        "  examples: test02, train01",
        "  next:     look at these pairs; mend them, then `fusmae update`; or, if they were "
        "published so, agree to them in data.tolerated.constant",
    ]


@pytest.mark.parametrize(("tolerated", "blocks"), [(1, True), (2, False)])
def test_a_dataset_passes_with_as_many_findings_as_are_tolerated(diagnose, changed, tolerated, blocks):
    diagnosis = diagnose(read=_flat(changed), tolerated={"constant": tolerated})
    assert diagnosis.blocks is blocks


def test_hints_force_the_stages_whose_raw_files_dvc_does_not_watch(diagnose):
    hints = [check.hint for check in diagnose(facts=Facts(counts={})).checks]
    stages = [stage for hint in hints for stage in re.findall(r"dvc repro ?([^`]*)`", hint)]
    assert set(stages) == {"", "-f -s fetch"}
    assert any("`fusmae update`" in hint for hint in hints)


def test_shards_are_observed_in_other_processes_alike(pairs, classes, shards):
    with get_context("spawn").Pool(2) as pool:
        there = examine_data(pairs, Task(classes=classes), Facts(), shards=shards, tolerated={}, run=pool.imap)
    here = examine_data(pairs, Task(classes=classes), Facts(), shards=shards, tolerated={})
    assert there.to_json() == here.to_json()


def test_a_tolerance_for_no_check_is_refused(diagnose):
    with pytest.raises(ConfigError, match=r"data.tolerated names constnt") as caught:
        diagnose(tolerated={"constnt": 4})
    assert "neighbours" in str(caught.value)


def test_a_misspelt_tolerance_is_found_before_any_shard_is_read(pairs, classes, shards):
    def never(function, paths):
        pytest.fail("a shard was read")

    with pytest.raises(ConfigError, match=r"data.tolerated names constnt"):
        examine_data(pairs, Task(classes=classes), Facts(), shards=shards, tolerated={"constnt": 4}, run=never)


def test_a_misspelt_tolerance_is_found_by_the_index_too(pairs, classes):
    with pytest.raises(ConfigError, match=r"data.tolerated names constnt"):
        examine_index(pairs, Task(classes=classes), Facts(), tolerated={"constnt": 4})


def test_absent_shards_are_said(tmp_path, pairs, classes):
    with pytest.raises(ShardError, match="There are no shards"):
        examine_data(pairs, Task(classes=classes), Facts(), shards=tmp_path, tolerated={})


def test_an_index_alone_can_be_examined(pairs, classes):
    checks = {check.name: check for check in examine_index(pairs, Task(classes=classes), Facts(counts={"train": 17}))}
    assert list(checks) == ["counts", "table", "places", "neighbours", "labels", "classes"]
    assert checks["counts"].found == 11


def test_the_whole_table_of_bigearthnet_is_examined_in_bounded_memory(tmp_path):
    if not (TABLES / "metadata.parquet").exists():
        pytest.skip(f"the real BigEarthNet v2 table is not at {TABLES}")
    if not Path("/proc/self/status").exists():
        pytest.skip("a process's peak memory is read from /proc, which this system has not")
    (tmp_path / "metadata.parquet").symlink_to(TABLES / "metadata.parquet")
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert lines["counts"] == "passed, train 237,871, validation 122,342, test 119,825"
    assert lines["labels"].startswith("passed")
    assert lines["table"].startswith("passed, in the rows of 480,038 pairs: the S1 name has the S2 name's tile")
    assert lines["classes"] == "passed, all 19 classes are in train and in test"
    assert lines["places"].startswith("passed")
    # The official split keeps test 12 km from train; validation is the ring between them.
    assert "validation pairs with a training pair: 11.9% within 1.2 km" in lines["neighbours"]
    assert (
        "test pairs with a training pair: 0.0% within 1.2 km, 0.0% within 2.4 km, 0.0% within 10 km"
        in (lines["neighbours"])
    )
    assert float(lines["peak_gb"]) < MAX_GB


def _examine_table(raw: Path) -> None:
    from fusmae.sources.bigearthnet.source import BigEarthNetSource

    source = BigEarthNetSource(version=2, countries=[], snow_and_clouds=False)
    facts = replace(source.facts(raw), counts=COUNTS)
    for check in examine_index(source.pairs(raw), source.task, facts):
        print(f"{check.name}: {check.status}, {check.got}")
    # Not getrusage's peak: a process that was started by a large one begins with that one's.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    print(f"peak_gb: {int(status['VmHWM'].split()[0]) * 1024 / 1e9:.2f}")


if __name__ == "__main__":
    _examine_table(Path(sys.argv[1]))
