import inspect

import pytest

from fusmae import errors
from fusmae.errors import ConfigError, FusmaeError


def test_message_has_problem_got_expected_and_next_in_this_order():
    error = FusmaeError("It is broken.", got=3, expected="4", hint="mend it")
    assert str(error) == "It is broken.\n  got:      3\n  expected: 4\n  next:     mend it"


def test_message_leaves_out_what_is_not_known():
    assert str(FusmaeError("It is broken.")) == "It is broken."
    assert str(FusmaeError("It is broken.", expected=1)) == "It is broken.\n  expected: 1"


@pytest.mark.parametrize("got", [0, False, "", []])
def test_a_falsy_got_is_still_shown(got):
    assert f"got:      {got}" in str(ConfigError("It is broken.", got=got))


def test_tree_in_the_docstring_is_the_tree_of_classes():
    classes = {
        name
        for name, item in inspect.getmembers(errors, inspect.isclass)
        if issubclass(item, FusmaeError) and item is not FusmaeError
    }
    assert all(getattr(errors, name).__base__ is FusmaeError for name in classes)
    drawn = {line.split()[1] for line in (errors.__doc__ or "").splitlines() if line.startswith(("├──", "└──"))}
    assert drawn == classes
