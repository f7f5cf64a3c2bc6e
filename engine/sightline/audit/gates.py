"""Gates: rules over figures, and the verdict that a build can act on."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from sightline.audit.section import Outcome, known_figures
from sightline.errors import UnknownName, UsageError

State = Literal["passed", "failed", "not measured"]
ROUNDING = 1e-9  # 0.62 - 0.60 is no more than 0.02
FIELDS = {"figure", "min", "max", "max_rise", "max_fall", "per_class", "why", "optional"}


@dataclass(frozen=True)
class Rule:
    """What a figure must hold.

    Attributes:
        figure: "section.figure".
        min, max: bounds of its value.
        max_rise, max_fall: bounds of its change since a baseline audit; not held where there is none.
        per_class: every class's figure must hold, too.
        optional: passes where the figure could not be measured; otherwise that fails.
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
    """

    rule: Rule
    state: State
    value: float | None
    text: str

    @property
    def holds(self) -> bool:
        """Whether the gate may open."""
        return self.state == "passed" or (self.state == "not measured" and self.rule.optional)


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
    rules: Sequence[Rule], outcomes: Mapping[str, Outcome], baseline: Mapping[str, float | None] | None = None
) -> tuple[Ruling, ...]:
    """Every rule against one candidate.

    Args:
        rules: to be held.
        outcomes: by section; one that crashed or did not run is missing.
        baseline: figures of an earlier audit, by full name.
    """
    return tuple(_ruling(rule, outcomes, baseline) for rule in rules)


def _ruling(rule: Rule, outcomes: Mapping[str, Outcome], baseline: Mapping[str, float | None] | None) -> Ruling:
    section, _, name = rule.figure.partition(".")
    outcome = outcomes.get(section)
    value = None if outcome is None else outcome.figures.get(name)
    if outcome is None or value is None or value != value:  # NaN
        told = "not measured, and optional: nothing is known of it" if rule.optional else "not measured, which fails"
        return Ruling(rule, "not measured", None, f"{rule}: {told}.")
    faults = _faults(rule, value, f"{value:.4g}")
    before = None if baseline is None else baseline.get(rule.figure)
    if before is not None:
        if rule.max_rise is not None and value - before > rule.max_rise + ROUNDING:
            faults.append(f"it rose from {before:.4g} to {value:.4g}")
        if rule.max_fall is not None and before - value > rule.max_fall + ROUNDING:
            faults.append(f"it fell from {before:.4g} to {value:.4g}")
    if rule.per_class:
        classes = outcome.per_class.get(name, {})
        bad = {label: one for label, one in classes.items() if _faults(rule, one, "")}
        faults += [f"{label}: {one:.4g}" for label, one in list(bad.items())[:5]]
        faults += [f"and {len(bad) - 5} more classes"] if len(bad) > 5 else []
    if faults:
        why = f" {rule.why}" if rule.why else ""
        return Ruling(rule, "failed", value, f"{rule}: {'; '.join(faults)}.{why}")
    return Ruling(rule, "passed", value, f"{rule}: {value:.4g}.")


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
