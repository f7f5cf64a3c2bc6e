"""Typed errors: one class per decision that a caller can take.

Every message says what was given, what is accepted and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SightlineError(Exception):
    """Base of every error that sightline raises on purpose."""

    exit_code = 3


class UsageError(SightlineError, ValueError):
    """The call itself is wrong: an unknown name, a value out of range, a missing argument."""

    exit_code = 2


class UnknownName(UsageError):
    """A layer, label, method or preset that does not exist; the message suggests the nearest ones."""

    def __init__(self, kind: str, given: str, known: Iterable[str]):
        names = list(known)
        near = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
        near = near or [name for name in names if given.lower() in name.lower()][:3]
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else _some(names)
        super().__init__(f"No {kind} is named {given!r}. {hint}")
        self.kind, self.given, self.near = kind, given, near


def _some(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:6]))
    return f"There are {len(names)}: {shown}{', …' if len(names) > 6 else ''}." if names else "There are none."


class BadModel(SightlineError):
    """The model file cannot be used: not ONNX, truncated, unsafe external data, NaN weights."""


class BadImage(SightlineError):
    """One input cannot be read; a job sets it aside and goes on."""


class NoImages(UsageError):
    """No input was found where the caller pointed."""


class MissingPreprocess(UsageError):
    """The model does not say how images become its input, and nobody else said it."""


class NoAscent(UsageError):
    """A target has no gradient where a picture begins: another start or seed may have."""


class FixedSize(UsageError):
    """A graph was asked for another image size than the one that its exporter wrote into it."""


class UnsupportedOperator(SightlineError):
    """The twin has no such operator: gradient methods cannot run, forward-only methods still can."""


class TwinMismatch(SightlineError):
    """The twin and ONNX Runtime differ at a node: gradient methods are refused, forward-only ones still work."""


class EngineMismatch(SightlineError):
    """A built engine and ONNX Runtime on the CPU differ on the same input: the engine is not used."""


class NoRoute(SightlineError):
    """No route offers what the method needs; the message holds every route's reasons."""


class MissingProvider(NoRoute):
    """A provider was asked for by name and is not there; nothing falls back to another."""


class MissingExtra(SightlineError):
    """An optional dependency is not installed; the message names the extra."""


class OutputConflict(SightlineError):
    """The output folder belongs to a job made with another model, method or preprocessing."""


class DamagedOutput(SightlineError):
    """A shard or manifest on disk does not hold what it claims."""
