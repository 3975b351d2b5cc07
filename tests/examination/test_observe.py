import numpy as np
import pytest

from fusmae.data.shards import PairReader, ShardFolder
from fusmae.examination.observe import histogram_edges, merge, observe


@pytest.fixture(scope="module")
def observed(shards):
    return merge(observe(path) for path in ShardFolder(shards).paths())


@pytest.fixture(scope="module")
def pixels(shards, inputs):
    """Every pair's pixels by band, `[N, P]`, in the order of the shards."""
    batches = [PairReader([path]).read(range(len(PairReader([path])))) for path in ShardFolder(shards).paths()]
    return {
        band: np.concatenate([batch[item.name][:, column].reshape(len(batch[item.name]), -1) for batch in batches])
        for item in inputs
        for column, band in enumerate(item.bands)
    }


def test_totals_are_those_of_all_pixels(observed, pixels):
    for band, totals in zip(observed.bands, observed.totals, strict=True):
        expected = pixels[band.name].astype(np.float64)
        assert totals.count == expected.size
        assert totals.mean == pytest.approx(expected.mean())
        assert totals.std == pytest.approx(expected.std())
        assert (totals.lowest, totals.highest) == (expected.min(), expected.max())
        edges = histogram_edges(band.unit)
        assert totals.histogram.tolist() == np.histogram(expected.clip(edges[0], edges[-1]), edges)[0].tolist()


def test_measures_are_those_of_each_pair(observed, pixels):
    for column, band in enumerate(observed.bands):
        found = pixels[band.name]
        assert observed.mean[:, column] == pytest.approx(found.mean(1), rel=1e-5)
        lowest = np.quantile(found, 0.01, axis=1, method="lower")
        assert observed.floor[:, column].tolist() == lowest.tolist()


def test_pairs_keep_their_split_and_labels(observed, pairs, classes):
    assert dict(zip(observed.keys, observed.splits, strict=True)) == {pair.key: pair.split for pair in pairs}
    rows = dict(zip(observed.keys, observed.labels, strict=True))
    for pair in pairs:
        assert [classes[column] for column in np.flatnonzero(rows[pair.key])] == list(pair.labels)


def _zeroed(band, part):
    """A band of which the first quarter, or another part, of the rows is 0."""
    band = band.copy()
    band[: len(band) // part] = 0
    return band


@pytest.mark.parametrize(("bands", "share"), [(("B02",), 0.0), (("B05", "B01"), 0.0), (("B02", "B03", "B04"), 0.0)])
def test_zero_in_some_bands_is_no_nodata(diagnose, changed, tmp_path, bands, share):
    diagnose(read=changed(lambda found: {name: _zeroed(found[name], 4) for name in bands}))
    found = merge(observe(path) for path in ShardFolder(tmp_path / "shards").paths())
    assert (found.nodata_share == share).all()


def test_nodata_is_no_dark_floor(diagnose, changed, tmp_path):
    def cut(bands):
        return {name: _zeroed(bands[name], 4) for name in ("B02", "B03", "B04", "B05", "B01")}

    diagnose(read=changed(cut))
    found = merge(observe(path) for path in ShardFolder(tmp_path / "shards").paths())
    column = [band.name for band in found.bands].index("B02")
    assert found.nodata_share[:, column] == pytest.approx(0.25)
    assert (found.floor[:, column] >= 200).all()


def test_values_beyond_the_histogram_are_in_its_last_bin(diagnose, changed):
    diagnosis = diagnose(read=changed(lambda bands: {"B02": bands["B02"] + np.uint16(25_000)}))
    summary = next(summary for summary in diagnosis.bands if summary.band.name == "B02")
    assert summary.totals.histogram[-1] == summary.totals.count
    assert summary.totals.highest > 25_000


def test_no_shards_are_an_empty_observation():
    assert merge([]).keys == []
