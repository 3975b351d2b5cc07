"""Items made ahead arrive in order, and so do errors."""

import threading

import pytest

from fusmae.inference.run_tiles import ahead


def test_items_come_in_order_from_another_thread():
    def items():
        for number in range(20):
            yield number, threading.get_ident()

    found = list(ahead(items(), 3))
    assert [number for number, _ in found] == list(range(20))
    assert {thread for _, thread in found} != {threading.get_ident()}


def test_an_error_is_raised_after_the_items_before_it():
    def items():
        yield 1
        raise ValueError("read error")

    made = ahead(items(), 4)
    assert next(made) == 1
    with pytest.raises(ValueError, match="read error"):
        next(made)


def test_no_more_than_depth_items_wait():
    made = []

    def items():
        for number in range(100):
            made.append(number)
            yield number

    waiting = ahead(items(), 2)
    next(waiting)
    waiting.close()
    assert len(made) <= 4
