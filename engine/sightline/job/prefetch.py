"""Reads and decodes inputs in threads while the model works on those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from sightline.errors import BadImage

Item = TypeVar("Item")
Made = TypeVar("Made")


def prefetch(
    items: Iterable[Item], make: Callable[[Item], Made], *, threads: int, ahead: int
) -> Generator[tuple[Item, Made | BadImage]]:
    """Each item with what ``make`` gave for it, in order; never more than ``ahead`` are in the making or waiting.

    A BadImage is handed on in place of the result; any other exception is raised here. Close the generator to stop
    early: what has not begun is dropped.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="sightline-decode")
    waiting: deque[tuple[Item, Future[Made]]] = deque()
    try:
        for item in items:
            if len(waiting) == ahead:
                yield _settled(*waiting.popleft())
            waiting.append((item, pool.submit(make, item)))
        while waiting:
            yield _settled(*waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _settled(item: Item, future: Future[Made]) -> tuple[Item, Made | BadImage]:
    try:
        return item, future.result()
    except BadImage as reason:
        return item, reason
