import os
import pickle
import pickletools
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fusmae.errors import SourceError
from fusmae.sources.shared.unpickle import Record, array_of, load_record

RECORD = b"\x8c\x1dbigearthnet_patch_interface.x\x8c\x01P\x93"


def short_text(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def protocol_4_global(module: str, name: str) -> bytes:
    return b"\x80\x04" + short_text(module) + short_text(name) + b"\x93."


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def foreign(monkeypatch):
    """A class that pickles as the foreign one does."""
    module = ModuleType("bigearthnet_patch_interface.merged_interface")
    patch = type("Patch", (), {"__module__": module.__name__})
    module.Patch = patch
    monkeypatch.setitem(sys.modules, "bigearthnet_patch_interface", ModuleType("bigearthnet_patch_interface"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return patch


def pickled(foreign, value, protocol=4) -> bytes:
    patch = foreign()
    patch.field = value
    return pickle.dumps(patch, protocol)


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("dtype", ["<f4", "<u2", ">i4", "u1", "?", "f8"])
def test_arrays_come_back_with_their_type_shape_and_values(foreign, dtype, protocol):
    wanted = (np.arange(24).reshape(4, 6) % 7).astype(dtype)
    found = array_of(load_record(pickled(foreign, wanted, protocol)).fields["field"])
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == wanted.dtype


def test_fortran_order_comes_back_with_the_same_values(foreign):
    wanted = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(array_of(load_record(pickled(foreign, wanted)).fields["field"]), wanted)


def test_records_nest_and_keep_plain_values(foreign):
    inner = foreign()
    inner.labels = ["Sea and ocean"]
    found = load_record(pickled(foreign, inner)).fields["field"]
    assert isinstance(found, Record)
    assert found.fields == {"labels": ["Sea and ocean"]}
    assert array_of(found) is None


@pytest.mark.parametrize("protocol", range(6))
def test_calling_the_system_is_refused_and_does_not_run(foreign, tmp_path: Path, protocol):
    mark = tmp_path / "ran"
    data = pickled(foreign, Call(os.system, f"touch {mark}"), protocol)
    with pytest.raises(SourceError, match="refused"):
        load_record(data)
    assert not mark.exists()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("call", [Call(eval, "1"), Call(np.load, "x.npy"), Call(getattr, np, "load")])
def test_other_callables_are_refused(foreign, call, protocol):
    if call.call[0] is getattr:
        call = Call(getattr, Record, "__init__")
    with pytest.raises(SourceError, match="refused"):
        load_record(pickled(foreign, call, protocol))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("numpy", "load"),
        ("numpy", "core.multiarray._reconstruct"),
        ("numpy", "ndarray.tofile"),
        ("numpy", "lib.npyio.os.system"),
        ("numpy.core.multiarray", "os"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy.core.multiarray.os", "system"),
        ("numpy.dtype", "type"),
        ("bigearthnet_patch_interface", "os"),
        ("bigearthnet_patch_interface_evil.x", "P"),
        ("bigearthnet_patch_interface.x", "P.__init__.__globals__"),
        ("copyreg", "_reconstructor"),
        ("fusmae.sources.shared.unpickle", "Record"),
    ],
)
def test_every_other_global_is_refused_by_name(module, name):
    with pytest.raises(SourceError) as caught:
        load_record(protocol_4_global(module, name))
    assert f"{module}.{name}" in str(caught.value)


@pytest.mark.parametrize("value", [object(), Record], ids=["instance", "class"])
def test_our_own_objects_are_refused(foreign, value):
    with pytest.raises(SourceError):
        load_record(pickled(foreign, value))


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1, "a"], [None, {}]], dtype=object),
        np.zeros(3, dtype=[("a", "f4"), ("b", "O")]),
        np.zeros(3, dtype="M8[s]"),
        np.array(["text"]),
        np.zeros(3, dtype="f4").view(np.recarray),
    ],
    ids=["object", "structured", "datetime", "text", "subclass"],
)
def test_arrays_that_are_not_plain_numbers_are_refused(foreign, array):
    with pytest.raises(SourceError):
        load_record(pickled(foreign, array))


def test_a_shape_that_promises_more_than_its_bytes_is_refused(foreign):
    data = pickled(foreign, np.zeros((3, 5), "u1"))
    assert data.count(b"K\x03K\x05\x86") == 1
    with pytest.raises(SourceError, match="does not fit"):
        load_record(data.replace(b"K\x03K\x05\x86", b"K\xffK\xff\x86"))


def test_a_dtype_with_tampered_flags_is_refused(foreign):
    data = pickled(foreign, np.zeros(4, "f4"))
    plain = b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
    assert data.count(plain) == 1
    with pytest.raises(SourceError, match="not a plain one"):
        load_record(data.replace(plain, b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ft"))


def test_repeating_an_array_costs_no_memory(foreign):
    shared = np.zeros(100_000)
    record = load_record(pickled(foreign, [shared] * 1000))
    assert len({array_of(value).__array_interface__["data"][0] for value in record.fields["field"]}) == 1


def test_a_memo_index_beyond_the_pickle_is_refused_before_loading():
    with pytest.raises(SourceError, match="memo index"):
        load_record(b"\x80\x04Nr\xff\xff\xff\x7f.")


def test_state_for_a_class_instead_of_an_instance_changes_nothing(foreign):
    before = dict(vars(Record))
    with pytest.raises(SourceError):
        load_record(b"\x80\x04" + RECORD + b"}" + short_text("fields") + b"Nsb.")
    assert dict(vars(Record)) == before


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.99])
def test_a_cut_pickle_is_refused(foreign, share):
    data = pickled(foreign, np.zeros((9, 9)))
    with pytest.raises(SourceError):
        load_record(data[: int(len(data) * share)])


def test_a_pickle_of_something_else_is_refused():
    for value in (b"\x80\x04N.", pickle.dumps([1, 2]), b"not a pickle"):
        with pytest.raises(SourceError):
            load_record(value)


def test_crafted_record_is_what_the_tests_take_it_for():
    names = [opcode.name for opcode, _, _ in pickletools.genops(b"\x80\x04" + RECORD + b".")]
    assert "STACK_GLOBAL" in names
