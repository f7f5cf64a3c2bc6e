"""The spaces of a bank: which columns of its rows can be compared with each other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import NDArray

from sightline.errors import UnknownName, UsageError

PIXELS = "pixels"  # the name of the space of thumbnails


@dataclass(frozen=True)
class Space:
    """Some columns of the rows of a bank: h x w descriptors of D numbers for each image.

    Attributes:
        name: the layer as it was asked for, or ``pixels``.
        pool: how its positions became a descriptor; ``none`` where each has its own, ``pixels`` for thumbnails.
        start: its first column.
        grid: h, w; (1, 1) where the positions were pooled.
        features: D.
    """

    name: str
    pool: str
    start: int
    grid: tuple[int, int]
    features: int

    @property
    def positions(self) -> int:
        """Descriptors per image."""
        return self.grid[0] * self.grid[1]

    @property
    def stop(self) -> int:
        """One past its last column."""
        return self.start + self.positions * self.features

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """(N h w, D) descriptors from rows (N, columns); a view where the bank has no other space."""
        return values[:, self.start : self.stop].reshape(-1, self.features)

    def __str__(self) -> str:
        grid = f"{self.grid[0]} x {self.grid[1]} x " if self.positions > 1 else ""
        return f"{self.name} ({self.pool}, {grid}{self.features})"


def written(spaces: Iterable[Space]) -> str:
    """The spaces as text, for a manifest."""
    return json.dumps([asdict(space) for space in spaces])


def read_spaces(text: str) -> tuple[Space, ...]:
    """The spaces that ``written`` wrote.

    Raises:
        UsageError: the text holds none.
    """
    try:
        records: list[dict[str, Any]] = json.loads(text)
        for record in records:
            record["grid"] = tuple(record["grid"])
        found = [Space(**record) for record in records]
    except (ValueError, TypeError, KeyError) as reason:
        raise UsageError(f"{text[:80]!r} does not describe the spaces of a bank.") from reason
    return tuple(found)


def named_space(spaces: Sequence[Space], name: str | None) -> Space:
    """The space of a name: a layer's, ``pixels``, or ``feature`` for the first that is no thumbnail.

    Raises:
        UnknownName: the bank has no such space.
    """
    layers = [space for space in spaces if space.name != PIXELS]
    if name in (None, "feature") and layers:
        return layers[0]
    wanted = PIXELS if name in ("pixel", None) else name
    for space in spaces:
        if space.name == wanted:
            return space
    raise UnknownName("space", name or "feature", [space.name for space in spaces])
