import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest

from fusmae.errors import InputError
from fusmae.serving.arrays import read_npz

JSON = {"Content-Type": "application/json"}
NPZ = {"Content-Type": "application/x-npz"}


def as_json(arrays):
    return json.dumps({"inputs": {name: array.tolist() for name, array in arrays.items()}})


def zipped(members, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def header(shape, descr="<f4"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def refusal(answer, status=422):
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "text"}
    return answer.json()["text"]


def test_npz_and_json_are_answered_as_the_session_answers(client, exported):
    pixels = exported.pixels(3)
    wanted = exported.session.run(pixels)["probabilities"]
    for answer in (client.ask(pixels), client.post("/predict", content=as_json(pixels), headers=JSON)):
        found = answer.json()
        np.testing.assert_allclose(found["probabilities"], wanted, atol=1e-6)
        assert found["classes"] == ["a", "b", "c"]
        assert found["kind"] == "multilabel"
        assert found["modalities"] == ["s1", "s2"]
        assert found["warnings"] == []
        assert found["model"]["name"] == "model.onnx"
        assert len(found["model"]["sha256"]) == 64


def test_packed_arrays_are_read(client, exported):
    file = io.BytesIO()
    np.savez_compressed(file, **exported.pixels(2))
    assert len(client.post("/predict", content=file.getvalue(), headers=NPZ).json()["probabilities"]) == 2


@pytest.mark.parametrize("setting", ["s1", "s2"])
def test_an_absent_modality_is_left_out(client, exported, setting):
    pixels = {name: array for name, array in exported.pixels(2).items() if name.startswith(setting)}
    answer = client.ask(pixels).json()
    assert answer["modalities"] == [setting]
    np.testing.assert_allclose(answer["probabilities"], exported.session.run(pixels)["probabilities"], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda p: {}, "one modality at least"),
        (lambda p: p | {"presence": np.ones((2, 2))}, "The model takes no array presence"),
        (lambda p: {"s2_10m": p["s2_10m"]}, "Array s2_20m is missing"),
        (lambda p: p | {"s1_10m": p["s1_10m"][:, :1]}, "Array s1_10m has a wrong shape"),
        (lambda p: p | {"s1_10m": p["s1_10m"][:1]}, "the same B in every array"),
        (lambda p: p | {"s1_10m": p["s1_10m"] * np.nan}, "NaN or infinite"),
        (lambda p: p | {"s1_10m": p["s1_10m"].astype(str)}, "isn't numbers"),
        (lambda p: {name: array[:0] for name, array in p.items()}, "Too many tiles, or none"),
        (lambda p: {name: np.tile(array, (5, 1, 1, 1)) for name, array in p.items()}, "larger than 8 tiles"),
        (lambda p: p | {"s1_10m": 10 ** (p["s1_10m"] / 10)}, "looks like linear power"),
        (lambda p: p | {n: p[n] / 10_000 for n in ("s2_10m", "s2_20m")}, "looks like reflectance"),
    ],
)
def test_what_is_wrong_with_arrays_is_named(client, exported, change, wanted):
    assert wanted in refusal(client.ask(change(exported.pixels(2))))


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"", "no .npz"),
        (b"PK\x03\x04garbage", "no .npz"),
        (zipped({"s1_10m.npy": b"garbage"}), "no .npz"),
        (zipped({"s1_10m.npy": header((2, 2, 24, 24)) + b"short"}), "no .npz"),
        (zipped({"s1_10m.npy": header((2, 2, 24, 24))}, zipfile.ZIP_LZMA), "another method than deflate"),
        (zipped({"s1_10m.npy": header((10**9, 2, 24, 24))}), "larger than 8 tiles"),
        (zipped({"s1_10m.npy": header((2,))}), "wrong shape"),
        (zipped({"s1_10m.npy": header((2,), "|O")}), "isn't numbers"),
        (zipped({"s1_10m.npy": header((2,), "<U4")}), "isn't numbers"),
        (zipped({"../../etc/passwd": b"x"}), "The model takes no array"),
        # 100 MB in 100 kB: no more is unpacked than the array that the header states.
        (zipped({"s1_10m.npy": header((8, 2, 24, 24)) + bytes(10**8)}), "are 0 in all bands"),
    ],
    ids=["empty", "cut", "no header", "short", "lzma", "huge", "flat", "objects", "text", "path", "bomb"],
)
def test_damaged_and_hostile_npz_are_refused(client, body, wanted):
    text = refusal(client.post("/predict", content=body, headers=NPZ))
    assert wanted in text
    assert client.get("/health").json()["is_ready"]


def test_a_header_of_gigabytes_is_not_unpacked(exported):
    """A small .npz whose array states a header of 256 MB of blanks."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("s1_10m.npy", "w") as member:
        member.write(b"\x93NUMPY\x02\x00" + (2**28).to_bytes(4, "little"))
        for _ in range(2**8):
            member.write(b" " * 2**20)
    assert len(file.getvalue()) < 300_000
    tracemalloc.start()
    with pytest.raises(InputError, match="header of a newer format"):
        read_npz(file.getvalue(), exported.inputs, 8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("value", [1e39, -1e300])
def test_numbers_that_float32_can_not_hold_are_refused(client, exported, value):
    pixels = exported.pixels(2)
    pixels["s1_10m"] = pixels["s1_10m"].astype(np.float64)
    pixels["s1_10m"][1, 0, 3, 4] = value
    for answer in (client.ask(pixels), client.post("/predict", content=as_json(pixels), headers=JSON)):
        assert "NaN or infinite pixels" in refusal(answer)


@pytest.mark.parametrize("value", [-9999, -32768, np.finfo(np.float32).min])
def test_a_tile_that_is_nodata_in_part_is_refused(client, exported, value):
    pixels = exported.pixels(2)
    pixels["s1_10m"][1, :, :7] = value
    text = refusal(client.ask(pixels))
    assert "Tile 1, band VV has pixels that are no measurements" in text or "NaN or infinite" in text
    assert "or leave" in text


def test_pickles_are_never_loaded(client, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    file = io.BytesIO()
    np.savez(file, s1_10m=np.array([Trap()], dtype=object))
    assert "isn't numbers" in refusal(client.post("/predict", content=file.getvalue(), headers=NPZ))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        (b"\xff\xfe", "no JSON"),
        ("[]", "another form"),
        ('{"instances": []}', "another form"),
        ('{"inputs": {"s1_10m": [[1, 2], [3]]}}', "ragged"),
        ('{"inputs": {"s1_10m": "text"}}', "isn't numbers"),
        ('{"inputs": {"s1_10m": [null]}}', "isn't numbers"),
        ('{"inputs": {"s1_10m": [1e400]}}', "wrong shape"),
        ('{"inputs": {"s1_10m": 5}}', "wrong shape"),
        ('{"inputs": {"s3": [5]}}', "The model takes no array s3"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_garbage_json_is_refused(client, body, wanted):
    assert wanted in refusal(client.post("/predict", content=body, headers=JSON))


def test_another_content_type_is_refused(client):
    text = refusal(client.post("/predict", content=b"x", headers={"Content-Type": "text/plain"}), 415)
    assert "application/x-npz" in text
