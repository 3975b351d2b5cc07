"""Folders, archives and addresses become rasters on this machine, or are refused for what they are."""

import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio

from fusmae.errors import InputError
from fusmae.inference.scene.bands import find_bands
from fusmae.inference.scene.files import scene_files, stored_in
from tests.inference.conftest import write_raster

S1 = {"VV": 10, "VH": 10}


def names(folder):
    return [path.relative_to(folder).as_posix() for path in scene_files("s2", [folder])]


@pytest.fixture
def folder(tmp_path):
    for name in ("VV", "VH"):
        write_raster(tmp_path / "s1" / f"{name}.tif", np.ones((1, 12, 12), np.float32))
    return tmp_path / "s1"


@pytest.fixture
def archives(folder):
    with zipfile.ZipFile(folder.parent / "s1.zip", "w") as archive:
        for name in ("product/VV.tif", "product/VH.tif"):
            archive.write(folder / Path(name).name, name)
        archive.writestr("__MACOSX/product/._VV.tif", b"no raster")
        archive.writestr("product/preview/VV_quicklook.tif", b"no band")
    with tarfile.open(folder.parent / "s1.tar", "w") as archive:
        archive.add(folder, "product")
    return folder.parent


@pytest.mark.parametrize(
    "name",
    [
        ".ipynb_checkpoints/B02-checkpoint.tif",
        "._B02.tif",
        "R10m/._B02.jp2",
        "__MACOSX/B02.tif",
        "~$B02.tif",
        ".trash/a/B02.tif",
        "GRANULE/QI_DATA/MSK_B02.jp2",
        "B02_thumbnail.tif",
        "thumbnails/B02.tif",
        "preview/B02.tif",
        "overview-B02.tif",
        "T33TWL_20200607T101031_TCI_10m.jp2",
        "T33TWL_20200607T101031_PVI.jp2",
        "B02-ql.tif",
        "B02.tif.aux.xml",
        "B02.tif.ovr",
        "Thumbs.db",
        ".DS_Store",
    ],
)
def test_what_programs_leave_beside_bands_is_no_raster_of_the_scene(tmp_path, name):
    for path in (tmp_path / "B02.tif", tmp_path / name):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert names(tmp_path) == ["B02.tif"]


def test_a_scene_in_a_hidden_folder_is_found(tmp_path):
    (tmp_path / ".cache" / "preview").mkdir(parents=True)
    (tmp_path / ".cache" / "preview" / "B02.tif").touch()
    assert names(tmp_path / ".cache" / "preview") == ["B02.tif"]


def test_a_picture_that_is_named_itself_is_taken_and_a_folder_of_them_says_so(tmp_path):
    path = tmp_path / "overview_B02.tif"
    path.touch()
    assert scene_files("s2", [path]) == [path]
    with pytest.raises(InputError, match=r"(?s)pictures and quality masks only.*overview_B02.*can be given itself"):
        scene_files("s2", [tmp_path])


@pytest.mark.parametrize("name", ["s1.zip", "s1.tar", "/vsizip/{}/s1.zip", "/vsitar/{}/s1.tar/product"])
def test_archives_are_listed_as_folders_are(archives, name):
    given = name.format(archives) if "{" in name else archives / name
    assert [path.name for path in scene_files("s1", [given])] == ["VH.tif", "VV.tif"]


@pytest.mark.parametrize(
    "form",
    [
        "/vsizip/{}/s1.zip/product/VV.tif",
        "/vsizip//{}/s1.zip/product/VV.tif",
        "/vsizip/{{{}/s1.zip}}/product/VV.tif",
        "/vsitar/{}/s1.tar/product/VV.tif",
    ],
)
def test_gdals_paths_into_archives_are_read(archives, form):
    text = form.format(archives)
    (path,) = scene_files("s1", [text])
    assert stored_in(path).parent == archives
    with rasterio.open(path) as dataset:
        assert dataset.read().all()
    assert scene_files("s1", [Path(text)]) == [path]


def test_a_path_into_an_archive_may_begin_in_this_folder(archives, monkeypatch):
    monkeypatch.chdir(archives)
    found = find_bands("s1", ["/vsizip/s1.zip/product/VV.tif", "/vsizip/s1.zip/product/VH.tif"], S1).bands
    assert [band.path.name for band in found.values()] == ["VV.tif", "VH.tif"]


@pytest.mark.parametrize(
    "address",
    [
        "https://example.org/a%20b/VV.tif?sig=1&x=2",
        f"https://example.org/VV.tif?sig={'x' * 5000}",
        "http://example.org/VV.tif",
        "s3://bucket/VV.tif",
        "gs://bucket/VV.tif",
        "az://container/VV.tif",
        "/vsicurl/https://example.org/VV.tif",
        "/vsis3/bucket/VV.tif",
        "/vsizip//vsicurl/https://example.org/s1.zip/VV.tif",
        "/vsigzip/VV.tif.gz",
        "zip+https://example.org/s1.zip!VV.tif",
    ],
)
def test_addresses_elsewhere_are_refused_as_they_were_given(address):
    with pytest.raises(InputError) as error:
        scene_files("s1", [address])
    assert str(error.value).startswith(f"{address} is not on this machine.")
    assert "copy it first" in str(error.value)


def test_the_command_that_copies_a_file_keeps_its_address_whole():
    with pytest.raises(InputError, match=r"curl -fLO 'https://example\.org/VV\.tif\?a=1&b=2'"):
        scene_files("s1", ["https://example.org/VV.tif?a=1&b=2"])
    with pytest.raises(InputError, match=r"aws s3 cp s3://bucket/VV\.tif \.$"):
        scene_files("s1", ["s3://bucket/VV.tif"])


def test_a_file_address_is_the_file(folder):
    path = folder / "V V.tif"
    (folder / "VV.tif").rename(path)
    assert scene_files("s1", [path.as_uri()]) == [path]


def test_absent_and_damaged_archives_are_named(tmp_path):
    with pytest.raises(InputError, match=r"There is no archive in /vsizip/none\.zip/VV\.tif"):
        scene_files("s1", ["/vsizip/none.zip/VV.tif"])
    (tmp_path / "cut.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"(?s)cut\.zip can't be read as an archive.*unpack it"):
        scene_files("s1", [tmp_path / "cut.zip"])
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("readme.txt", "")
    with pytest.raises(InputError, match=r"empty\.zip holds no raster"):
        scene_files("s1", [tmp_path / "empty.zip"])
