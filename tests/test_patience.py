"""Time limit for calls of SymPy."""

import threading
import time

import pytest

from kanpinn.symbolic.patience import within


def endless() -> int:
    k = 0
    while True:
        try:
            k += 1
        except ValueError:  # as some calls in SymPy do
            k = 0


def test_a_call_that_ends_gives_its_value_and_its_error() -> None:
    assert within(lambda: 3, 0) == 3
    with pytest.raises(ZeroDivisionError):
        within(lambda: 1 // 0, 0)


def test_an_endless_call_is_ended_in_any_thread() -> None:
    found = []
    begun = time.process_time()
    thread = threading.Thread(target=lambda: found.append(within(endless, "late", seconds=0.1)))
    thread.start()
    thread.join()
    assert found == ["late"]
    assert time.process_time() - begun < 3
    assert within(lambda: 4, 0) == 4
