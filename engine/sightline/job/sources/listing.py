"""Inputs that are made when somebody asks for them."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import overload

import numpy as np

from sightline.job.inputs import Input


class Listing(Sequence[Input]):
    """A list of inputs that holds names and places, not objects. A subclass gives its length and one input."""

    @abstractmethod
    def at(self, position: int) -> Input:
        """One input; ``position`` lies within the list."""

    @overload
    def __getitem__(self, at: int) -> Input: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Input]: ...
    def __getitem__(self, at: int | slice) -> Input | Sequence[Input]:
        if isinstance(at, slice):
            return Stretch(self, range(*at.indices(len(self))))
        position = at + len(self) if at < 0 else at
        if not 0 <= position < len(self):
            raise IndexError(at)
        return self.at(position)

    def __iter__(self) -> Iterator[Input]:
        return (self.at(position) for position in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_same, self, other))

    __hash__ = None  # type: ignore[assignment]


class Stretch(Listing):
    """Some inputs of a list."""

    def __init__(self, whole: Listing, positions: range):
        self._whole, self._positions = whole, positions

    def __len__(self) -> int:
        return len(self._positions)

    def at(self, position: int) -> Input:
        return self._whole.at(self._positions[position])


class Chain(Listing):
    """Lists one after the other; ``renamed`` holds other ids for a few."""

    def __init__(self, parts: Sequence[Listing], renamed: Mapping[int, str] | None = None):
        self._parts = [part for part in parts if len(part)]
        self._ends = list(accumulate(map(len, self._parts)))
        self._renamed = dict(renamed or {})

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def at(self, position: int) -> Input:
        part = bisect_right(self._ends, position)
        one = self._parts[part].at(position - (self._ends[part - 1] if part else 0))
        return replace(one, id=self._renamed[position]) if position in self._renamed else one

    def with_distinct_ids(self) -> Chain:
        """The same inputs; an id that an earlier one has is numbered."""
        repeated = repeated_ids(self)
        if not repeated:
            return self
        taken = {one.id for one in self}
        renamed: dict[int, str] = {}
        for position in repeated:
            name, number = self.at(position).id, 2
            while f"{name}#{number}" in taken:
                number += 1
            renamed[position] = f"{name}#{number}"
            taken.add(renamed[position])
        return Chain(self._parts, renamed)


def repeated_ids(entries: Sequence[Input]) -> list[int]:
    """Positions whose id an earlier one has, in order.

    Ids are compared by 8 bytes each; only those that agree in these are looked at as text.
    """
    keys = np.fromiter((hash(one.id) for one in entries), np.int64, len(entries))
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    if not same.any():
        return []
    suspects = sorted({*order[1:][same].tolist(), *order[:-1][same].tolist()})
    seen: set[str] = set()
    found: list[int] = []
    for position in suspects:
        name = entries[position].id
        if name in seen:
            found.append(position)
        seen.add(name)
    return found


def _same(one: object, other: object) -> bool:
    return one == other
