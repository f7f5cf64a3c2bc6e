"""How much of each style a mix holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sightline.errors import UnknownName, UsageError
from sightline.types import FloatArray


def parse_shares(text: str) -> dict[str, float]:
    """Shares by name, as they are written on a command line.

    >>> parse_shares("brick=1,coffee=3")
    {'brick': 1.0, 'coffee': 3.0}

    Raises:
        UsageError: it is written otherwise, or names a style twice.
    """
    found = dict[str, float]()
    for part in text.split(","):
        name, _, number = part.strip().rpartition("=")
        try:
            share = float(number)
        except ValueError:
            share = None
        if not name or share is None:
            raise UsageError(
                f"shares {text!r} are not written as NAME=NUMBER,NAME=NUMBER, such as brick=0.3,coffee=0.7."
            )
        if name in found:
            raise UsageError(f"shares {text!r} name {name!r} twice. Give every style one share.")
        found[name] = share
    return found


def mix(names: Sequence[str], shares: Mapping[str, float] | None) -> FloatArray:
    """(N,) float32 of sum 1 in the order of the names; all of the first style where none are given.

    Shares count in proportion, as those of ``style_transfer`` do: 1 and 3 are a quarter and three quarters.

    Raises:
        UnknownName: no style is called so.
        UsageError: a share is negative, infinite or no number, or all are 0.
    """
    given = {names[0]: 1.0} if shares is None else shares
    for name, share in given.items():
        if name not in names:
            raise UnknownName("style", name, names)
        if not 0 <= share < math.inf:
            raise UsageError(f"The share {share} of style {name!r} must be a finite number of at least 0.")
    total = math.fsum(given.values())
    if not 0 < total < math.inf:
        raise UsageError(f"The shares {dict(given)} add up to {total}. Give at least one style a share above 0.")
    return np.array([given.get(name, 0.0) / total for name in names], np.float32)
