"""Reads and decodes inputs in threads while the model works on those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

from sightline.errors import BadImage

Item = TypeVar("Item")
Made = TypeVar("Made")


class Ahead(Iterator[tuple[Item, Made | BadImage]], Generic[Item, Made]):
    """Each item with what ``make`` gave for it, in order; begun at once, never more than ``ahead`` in the making."""

    def __init__(self, pool: ThreadPoolExecutor, items: Iterable[Item], make: Callable[[Item], Made], ahead: int):
        self._pool, self._items, self._make, self._ahead = pool, iter(items), make, ahead
        self._waiting: deque[tuple[Item, Future[Made]]] = deque()
        self.all_begun = False  # whether no item is left to begin
        self._fill()

    def __next__(self) -> tuple[Item, Made | BadImage]:
        if not self._waiting:
            raise StopIteration
        item, future = self._waiting.popleft()
        try:
            return item, future.result()
        except BadImage as reason:
            return item, reason
        finally:
            self._fill()

    def _fill(self) -> None:
        while not self.all_begun and len(self._waiting) < self._ahead:
            try:
                item = next(self._items)
            except StopIteration:
                self.all_begun = True
            else:
                self._waiting.append((item, self._pool.submit(self._make, item)))


@contextmanager
def decoders(threads: int) -> Generator[ThreadPoolExecutor]:
    """Threads that read and decode; at the end, what has not begun is dropped."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="sightline-decode")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def prefetch(
    items: Iterable[Item], make: Callable[[Item], Made], *, threads: int, ahead: int
) -> Generator[tuple[Item, Made | BadImage]]:
    """Each item with what ``make`` gave for it, in order; never more than ``ahead`` are in the making or waiting.

    A BadImage is handed on in place of the result; any other exception is raised here. Close the generator to stop
    early: what has not begun is dropped.
    """
    with decoders(threads) as pool:
        yield from Ahead(pool, items, make, ahead)
