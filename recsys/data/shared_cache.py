"""SharedCache: results that several threads want and one computes."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SharedCache(Generic[Key, Value]):
    """Keeps the `capacity` results used last; nothing is ever computed twice at once."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = Lock()
        self._futures: OrderedDict[Key, Future[Value]] = OrderedDict()

    def get(self, key: Key, compute: Callable[[], Value]) -> Value:
        """The result for `key`, computed here unless another thread has it or is at it.

        What `compute` raises is raised in every waiting thread, and not kept.
        """
        with self._lock:
            future = self._futures.get(key)
            if future is not None:
                self._futures.move_to_end(key)
        if future is not None:
            return future.result()
        return self._compute(key, compute)

    def _compute(self, key: Key, compute: Callable[[], Value]) -> Value:
        mine: Future[Value] = Future()
        with self._lock:
            future = self._futures.setdefault(key, mine)
            while len(self._futures) > self._capacity:
                self._futures.popitem(last=False)
        if future is not mine:
            return future.result()
        try:
            mine.set_result(compute())
        except BaseException as error:
            mine.set_exception(error)
            with self._lock:
                self._futures.pop(key, None)
            raise
        return mine.result()

    def __contains__(self, key: Key) -> bool:
        with self._lock:
            return key in self._futures

    def clear(self) -> None:
        """Forgets every result."""
        with self._lock:
            self._futures.clear()
