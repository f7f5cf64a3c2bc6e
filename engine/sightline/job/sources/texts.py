"""Many short texts in little memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import overload


class Texts(Sequence[str]):
    """Texts one after the other in one block: a million paths take what their letters take, and 8 bytes each.

    >>> names = Texts(["a.png", "b.png"])
    >>> names[1], len(names)
    ('b.png', 2)
    """

    def __init__(self, texts: Iterable[str] = ()):
        self._block = bytearray()
        self._ends = array("Q")
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Add one; bytes of a path that are no UTF-8 are kept as the operating system gives them."""
        self._block += text.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._block))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Texts: ...
    def __getitem__(self, at: int | slice) -> str | Texts:
        if isinstance(at, slice):
            return Texts(self[one] for one in range(*at.indices(len(self))))
        if at < 0:
            at += len(self)
        if not 0 <= at < len(self):
            raise IndexError(at)
        start = self._ends[at - 1] if at else 0
        return self._block[start : self._ends[at]].decode("utf-8", "surrogateescape")
