from pathlib import Path

import pytest
from filelock import FileLock

from fusmae.data.index import Pair
from fusmae.sources.download import download
from fusmae.sources.sample import LISTS_WHEEL, PIXELS_WHEEL, SampleSource

REPOSITORY = Path(__file__).parents[2]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="session")
def sample_downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two real wheels: the pipeline's own where it has run, else downloaded once for all workers."""
    own = REPOSITORY / "data" / "downloads"
    wheels = (LISTS_WHEEL, PIXELS_WHEEL)
    if all((own / wheel.filename).exists() for wheel in wheels):
        return own
    shared = tmp_path_factory.getbasetemp().parent / "sample-downloads"
    shared.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{shared}.lock"):
        for wheel in wheels:
            download(wheel, shared)
    return shared


@pytest.fixture(scope="session")
def sample_raw(sample_downloads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = tmp_path_factory.mktemp("sample") / "raw"
    SampleSource().fetch(sample_downloads, raw)
    return raw


@pytest.fixture(scope="session")
def sample_pairs(sample_raw: Path) -> list[Pair]:
    return SampleSource().pairs(sample_raw)


@pytest.fixture(scope="session")
def shared_bigearthnet() -> Path:
    folder = SHARED_DATA / "bigearthnet_v2"
    if not folder.is_dir():
        pytest.skip(f"the real BigEarthNet v2 tables are not at {folder}")
    return folder
