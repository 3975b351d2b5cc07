import unicodedata
from pathlib import Path

import pytest

from fusmae.errors import SourceError
from fusmae.sources.folder.source import absent_raster, find_raster, rasters_by_key

NFC, NFD = (unicodedata.normalize(form, "Zürich_é") for form in ("NFC", "NFD"))
MIXED = unicodedata.normalize("NFD", "Zürich_") + "é"


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("key", [NFC, NFD, MIXED])
@pytest.mark.parametrize("stem", [NFC, NFD, MIXED])
def test_names_that_look_the_same_are_the_same(tmp_path, key, stem):
    touched(tmp_path, f"{stem}.tif")
    assert find_raster(tmp_path, key) == tmp_path / f"{stem}.tif"


def test_folders_in_a_key_are_composed_too(tmp_path):
    touched(tmp_path, f"{NFD}/{MIXED}_20m.tif")
    assert find_raster(tmp_path, f"{NFC}/{NFC}_20m") == tmp_path / NFD / f"{MIXED}_20m.tif"


@pytest.mark.parametrize("name", ["a.tif", "a.TIF", "a.tiff", "a.Tiff"])
def test_every_ending_of_a_geotiff_is_found(tmp_path, name):
    touched(tmp_path, name)
    assert find_raster(tmp_path, "a") == tmp_path / name


@pytest.mark.parametrize("key", ["a b", "100%", "%41", "a?b#c", "a.b", "a&b=c", "[a]*"])
def test_signs_in_a_key_are_themselves(tmp_path, key):
    touched(tmp_path, f"{key}.tif")
    assert find_raster(tmp_path, key) == tmp_path / f"{key}.tif"


@pytest.mark.parametrize(
    "names", [(f"{NFC}.tif", f"{NFD}.tif"), (f"{NFC}.tif", f"{NFC}.TIF"), (f"{NFD}.tiff", f"{MIXED}.tif")]
)
def test_two_files_of_one_key_are_refused_and_told_apart(tmp_path, names):
    touched(tmp_path, *names)
    with pytest.raises(SourceError, match=r"2 files for the key 'Zürich_é'") as caught:
        find_raster(tmp_path, NFC)
    for name in names:
        assert ascii(name) in str(caught.value)


def test_the_advice_to_remove_one_of_two_is_enough(tmp_path):
    touched(tmp_path, f"{NFC}.tif", f"{NFD}.tif")
    (tmp_path / f"{NFD}.tif").unlink()
    assert find_raster(tmp_path, NFC) == tmp_path / f"{NFC}.tif"


def test_hidden_files_are_no_rasters(tmp_path):
    touched(tmp_path, "a.tif", "._a.tif", ".thumbs/b.tif", "a.tif.aux.xml", "notes.txt")
    assert list(rasters_by_key(tmp_path)) == ["a"]


def test_a_file_in_a_linked_folder_is_found(tmp_path):
    touched(tmp_path / "elsewhere", "a.tif")
    (tmp_path / "s1").mkdir()
    (tmp_path / "s1" / "north").symlink_to(tmp_path / "elsewhere")
    assert find_raster(tmp_path / "s1", "north/a") == tmp_path / "s1/north/a.tif"


@pytest.mark.parametrize(("key", "name"), [("P 1", "p_1.tif"), ("p1.tif", "p1.tif"), ("p1.TIF", "P1.tif")])
def test_a_name_that_may_be_meant_is_said(tmp_path, key, name):
    touched(tmp_path, name)
    assert find_raster(tmp_path, key) is None
    error = absent_raster(tmp_path, key)
    assert error.fault == "incomplete"
    assert f"{tmp_path / name} is there: give the file and the key the same name" in str(error)


def test_a_key_like_no_file_has_the_layout_for_a_hint(tmp_path):
    touched(tmp_path, "a.tif")
    assert "is there" not in str(absent_raster(tmp_path, "b"))
    assert "docs/folder.md" in str(absent_raster(tmp_path, "b"))


def test_a_folder_that_is_not_there_has_no_files(tmp_path):
    assert find_raster(tmp_path / "absent", "a") is None
