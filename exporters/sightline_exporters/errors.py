"""Why an export did not happen: one class per decision that a caller can take.

Every message says what was given, what is accepted and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sightline_exporters.parity import Parity


class ExporterError(Exception):
    """Base of every error that the exporters raise on purpose.

    Attributes:
        exit_code: 3 could not run, 2 the call itself is wrong.
    """

    exit_code = 3


class BadRequest(ExporterError, ValueError):
    """The call itself is wrong: an unknown option, no example, a preprocessing with a missing field."""

    exit_code = 2


class UnknownSource(BadRequest):
    """No such model, weights or kind of source; the message suggests the nearest names."""

    def __init__(self, kind: str, given: str, known: Sequence[str]):
        lowered = {name.lower(): name for name in known}
        longer = [name for name in lowered if given and name.startswith(given.lower())]
        close = difflib.get_close_matches(given.lower(), list(lowered), n=3, cutoff=0.5)
        near = [lowered[name] for name in dict.fromkeys([*longer, *close])][:3]
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else _listed(known)
        super().__init__(f"No {kind} is named {given!r}. {hint}")
        self.near = near


class MissingExtra(ExporterError):
    """An optional dependency is not installed; the message names the extra."""


class MissingWeights(ExporterError):
    """The weights are neither in the cache nor can they be fetched; the message says how to pass a local file."""


class BadWeights(ExporterError):
    """The file of weights is damaged, holds code, or fits another network."""


class ConversionFailed(ExporterError):
    """The module does not run on the example, or torch.onnx.export cannot translate it."""


class ParityFailed(ExporterError):
    """ONNX Runtime's outputs differ from torch's by more than the tolerance; nothing was written.

    Attributes:
        parity: what was measured.
    """

    def __init__(self, message: str, parity: Parity):
        super().__init__(message)
        self.parity = parity


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:6]))
    return f"There are {len(names)}: {shown}{', …' if len(names) > 6 else ''}." if names else "There are none."
