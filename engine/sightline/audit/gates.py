"""Gates: rules over figures, and the verdict that a build can act on."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from sightline.audit.section import Outcome, known_figures
from sightline.errors import UnknownName, UsageError

State = Literal["passed", "failed", "not measured"]
ROUNDING = 1e-9  # 0.62 - 0.60 is no more than 0.02
CLASSES_TOLD = 5
FIELDS = {"figure", "min", "max", "max_rise", "max_fall", "per_class", "why", "optional"}


@dataclass(frozen=True)
class Rule:
    """What a figure must hold.

    Attributes:
        figure: "section.figure".
        min, max: bounds of its value.
        max_rise, max_fall: bounds of its change since a baseline audit; nothing is known where none was given.
        per_class: every class's figure must hold, too.
        optional: passes where its section found nothing to measure; otherwise that fails.
        why: for whoever reads that it failed.
    """

    figure: str
    min: float | None = None
    max: float | None = None
    max_rise: float | None = None
    max_fall: float | None = None
    per_class: bool = False
    optional: bool = False
    why: str = ""

    @property
    def bounds_change(self) -> bool:
        """Whether it needs an earlier audit."""
        return self.max_rise is not None or self.max_fall is not None

    def __str__(self) -> str:
        bounds = {"min": "at least", "max": "at most", "max_rise": "rise at most", "max_fall": "fall at most"}
        told = [
            f"{words} {getattr(self, name):g}" for name, words in bounds.items() if getattr(self, name) is not None
        ]
        return f"{self.figure} {', '.join(told)}{', in every class' if self.per_class else ''}"


@dataclass(frozen=True)
class Ruling:
    """A rule held against one candidate.

    Attributes:
        rule: as it was given.
        state: whether it holds.
        value: of the figure.
        text: one sentence.
        excused: nothing is known, and that may pass: the rule is optional, or no earlier audit was given.
    """

    rule: Rule
    state: State
    value: float | None
    text: str
    excused: bool = False

    @property
    def holds(self) -> bool:
        """Whether the gate may open."""
        return self.state == "passed" or self.excused


@dataclass(frozen=True)
class Before:
    """What an earlier audit found of a candidate.

    Attributes:
        figures: by full name.
        per_class: of some figures, by full name, the same by class.
    """

    figures: Mapping[str, float | None]
    per_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])


def read_gates(path: Path | None) -> tuple[Rule, ...]:
    """The rules of a TOML file, or those that are shipped.

    Raises:
        UsageError: no such file, not TOML, a rule without bounds, or with fields that there are not.
        UnknownName: a figure that no section gives.
    """
    source = files("sightline.audit").joinpath("gates.toml") if path is None else path
    try:
        record = tomllib.loads(source.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as reason:
        raise UsageError(f"--gates {path} cannot be read: {reason}") from reason
    entries: Any = record.get("rule")
    if not isinstance(entries, list) or set(record) != {"rule"}:
        raise UsageError(
            f'{path} holds no rules. Each begins with [[rule]] and has figure = "parity.top1_agreement".'
        )
    return tuple(_rule(entry, str(path)) for entry in entries)


def _rule(entry: Any, where: str) -> Rule:
    unknown = set(entry) - FIELDS if isinstance(entry, dict) else {"?"}
    if unknown or not isinstance(entry.get("figure"), str):
        told = f"does not have {', '.join(sorted(unknown))}" if unknown else "needs a figure"
        raise UsageError(f"A rule of {where} {told}. Accepted: {', '.join(sorted(FIELDS))}.")
    if entry["figure"] not in known_figures():
        raise UnknownName("figure", entry["figure"], known_figures())
    numbers = [name for name in ("min", "max", "max_rise", "max_fall") if name in entry]
    if not numbers or not all(
        isinstance(entry[name], int | float) and not isinstance(entry[name], bool) for name in numbers
    ):
        raise UsageError(
            f"The rule of {where} on {entry['figure']} needs a number as min, max, max_rise or max_fall."
        )
    return Rule(**entry)


def judged(
    rules: Sequence[Rule], outcomes: Mapping[str, Outcome], baseline: Before | None = None
) -> tuple[Ruling, ...]:
    """Every rule against one candidate.

    Args:
        rules: to be held.
        outcomes: by section; one that crashed or did not run is missing.
        baseline: what an earlier audit found; None where none was given.
    """
    return tuple(_ruling(rule, outcomes, baseline) for rule in rules)


def _ruling(rule: Rule, outcomes: Mapping[str, Outcome], baseline: Before | None) -> Ruling:
    section, _, name = rule.figure.partition(".")
    outcome = outcomes.get(section)
    if outcome is None:
        return Ruling(rule, "not measured", None, f"{rule}: not measured, since {section} did not end, which fails.")
    value = outcome.figures.get(name)
    if value is None or value != value:  # NaN
        return _unknown(rule, None, "not measured", rule.optional)
    faults = _faults(rule, value, f"{value:.4g}")
    classes = outcome.per_class.get(name, {}) if rule.per_class else {}
    bad = {label: one for label, one in classes.items() if _faults(rule, one, "")}
    told = [f"{label}: {one:.4g}" for label, one in bad.items()]
    before = None if baseline is None else baseline.figures.get(rule.figure)
    if before is not None and baseline is not None:
        faults += _changes(rule, before, value)
        old = baseline.per_class.get(rule.figure, {})
        told += [
            f"{label}: {change}"
            for label, one in classes.items()
            if label in old and label not in bad
            for change in _changes(rule, old[label], one)
        ]
    faults += told[:CLASSES_TOLD]
    faults += [f"and {len(told) - CLASSES_TOLD} more classes"] if len(told) > CLASSES_TOLD else []
    if faults:
        why = f" {rule.why}" if rule.why else ""
        return Ruling(rule, "failed", value, f"{rule}: {'; '.join(faults)}.{why}")
    if rule.per_class and not classes:
        return _unknown(rule, value, "not measured by class", rule.optional)
    if rule.bounds_change and before is None:
        missing = "no earlier audit was given (--baseline)" if baseline is None else "the earlier audit lacks it"
        return _unknown(rule, value, f"its change is not known: {missing}", rule.optional or baseline is None)
    return Ruling(rule, "passed", value, f"{rule}: {value:.4g}.")


def _unknown(rule: Rule, value: float | None, told: str, excused: bool) -> Ruling:
    passing = "and optional: nothing is known of it" if rule.optional else "so nothing is known of it"
    how = passing if excused else "which fails"
    return Ruling(rule, "not measured", value, f"{rule}: {told}, {how}.", excused)


def _changes(rule: Rule, before: float, value: float) -> list[str]:
    found = list[str]()
    if rule.max_rise is not None and value - before > rule.max_rise + ROUNDING:
        found.append(f"it rose from {before:.4g} to {value:.4g}")
    if rule.max_fall is not None and before - value > rule.max_fall + ROUNDING:
        found.append(f"it fell from {before:.4g} to {value:.4g}")
    return found


def _faults(rule: Rule, value: float, told: str) -> list[str]:
    low = rule.min is not None and not value >= rule.min - ROUNDING
    high = rule.max is not None and not value <= rule.max + ROUNDING
    return [f"it is {told}"] if low or high else []


def tally(rulings: Sequence[Ruling]) -> str:
    """How many rules hold, failed and were not measured, in words: what was not measured does not hold."""
    passed, failed = (sum(one.state == state for one in rulings) for state in ("passed", "failed"))
    told = [f"{passed} of {len(rulings)} rules hold"]
    told += [f"{failed} failed"] if failed else []
    told += [f"{len(rulings) - passed - failed} not measured"] if len(rulings) > passed + failed else []
    return ", ".join(told)


def unmeasured(rulings: Sequence[Ruling]) -> list[Ruling]:
    """Rules that let a candidate pass because nothing is known of it."""
    return [one for one in rulings if one.holds and one.state == "not measured"]


def to_json(ruling: Ruling) -> dict[str, Any]:
    """A plain dictionary."""
    return {
        "rule": asdict(ruling.rule),
        "state": ruling.state,
        "value": ruling.value,
        "holds": ruling.holds,
        "text": ruling.text,
    }
