"""What a section of an audit is, and what it finds."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from sightline.audit.context import Context

Severity = Literal["note", "warning", "fault"]


@dataclass(frozen=True)
class Finding:
    """One sentence that somebody should read.

    Attributes:
        severity: note: worth knowing; warning: may be wrong; fault: is not what was trained.
        text: what was found, with its numbers.
    """

    severity: Severity
    text: str


@dataclass(frozen=True)
class Outcome:
    """What one section found of one candidate.

    Attributes:
        figures: numbers that gates can hold, by name; None where there was nothing to measure.
        per_class: of some figures, the same by class label.
        findings: sentences.
        details: for the report: plain lists, numbers and strings.
        seconds: it took.
    """

    figures: Mapping[str, float | None]
    findings: tuple[Finding, ...] = ()
    per_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists; a figure that is no number becomes None."""
        known = {name: value for name, value in self.figures.items() if value is not None and isfinite(value)}
        classes = {
            name: {label: value for label, value in values.items() if isfinite(value)}
            for name, values in self.per_class.items()
        }
        return {**asdict(self), "figures": dict.fromkeys(self.figures, None) | known, "per_class": classes}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Outcome:
        """What ``to_json`` gave."""
        return cls(
            record["figures"], tuple(Finding(**one) for one in record["findings"]), record["per_class"],
            record["details"], record["seconds"],
        )  # fmt: skip


class Section(Protocol):
    """One question about a candidate.

    Attributes:
        name: of its file; gates say ``name.figure``.
        place: sections run and are shown in rising order.
        share: of the time of a whole audit that it usually takes, so that the time left can be told.
        figures: every figure it can give, and what it means, in words.
    """

    name: str
    place: int
    share: float
    figures: Mapping[str, str]

    def run(self, context: Context) -> Outcome:
        """Ask it."""
        ...


@cache
def sections() -> tuple[Section, ...]:
    """All of them: the files of the folder ``sections``, each of which ends in ``SECTION = …``."""
    import sightline.audit.sections as folder

    found = [
        importlib.import_module(f"{folder.__name__}.{one.name}").SECTION
        for one in pkgutil.iter_modules(folder.__path__)
        if not one.name.startswith("_")
    ]
    return tuple(sorted(found, key=lambda section: section.place))


def known_figures() -> dict[str, str]:
    """What every figure means, by its full name."""
    return {f"{one.name}.{figure}": meaning for one in sections() for figure, meaning in one.figures.items()}
