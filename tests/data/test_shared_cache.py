import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from recsys.data.shared_cache import SharedCache


def test_threads_that_want_the_same_result_wait_for_one_computation():
    cache, calls, everybody = SharedCache(capacity=1), [], threading.Barrier(4)

    def compute():
        calls.append(1)
        return "result"

    def ask():
        everybody.wait()
        return cache.get("key", compute)

    with ThreadPoolExecutor(4) as pool:
        results = [future.result() for future in [pool.submit(ask) for _ in range(4)]]
    assert results == ["result"] * 4
    assert len(calls) == 1


def test_the_result_used_longest_ago_is_forgotten_first():
    cache = SharedCache(capacity=2)
    for key in ("a", "b", "a", "c"):
        cache.get(key, lambda: None)
    assert [key in cache for key in "abc"] == [True, False, True]


def test_a_failure_is_raised_and_not_kept():
    cache = SharedCache(capacity=1)

    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.get("key", fail)
    assert cache.get("key", lambda: 7) == 7
