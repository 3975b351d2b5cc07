from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_bigearthnet() -> Path:
    folder = SHARED_DATA / "bigearthnet_v2"
    if not folder.is_dir():
        pytest.skip(f"the real BigEarthNet v2 tables are not at {folder}")
    return folder
