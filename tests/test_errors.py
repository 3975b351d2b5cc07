import inspect
import pickle

import pytest

from fusmae import errors
from fusmae.errors import ConfigError, FusmaeError, PairError


def test_message_has_problem_got_expected_and_next_in_this_order():
    error = FusmaeError("It is broken.", got=3, expected="4", hint="mend it")
    assert str(error) == "It is broken.\n  got:      3\n  expected: 4\n  next:     mend it"


def test_message_leaves_out_what_is_not_known():
    assert str(FusmaeError("It is broken.")) == "It is broken."
    assert str(FusmaeError("It is broken.", expected=1)) == "It is broken.\n  expected: 1"


@pytest.mark.parametrize("got", [0, False, "", []])
def test_a_falsy_got_is_still_shown(got):
    assert f"got:      {got}" in str(ConfigError("It is broken.", got=got))


def test_every_class_is_directly_under_the_common_one():
    classes = [item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, FusmaeError)]
    assert all(item.__base__ is FusmaeError for item in classes if item is not FusmaeError)


def test_an_error_of_a_pair_reaches_another_process_with_its_fault_and_text():
    error = PairError("nodata", "It is empty.", got=1, hint="mend it")
    sent = pickle.loads(pickle.dumps(error))
    assert (type(sent), sent.fault, str(sent)) == (PairError, "nodata", str(error))
