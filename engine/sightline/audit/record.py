"""An audit as files: audit.json for programs, junit.xml for builds, summary.md for pull requests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from sightline import __version__
from sightline.audit.gates import Before, Ruling, tally, to_json, unmeasured
from sightline.audit.run import Audited
from sightline.errors import UsageError
from sightline.job.files import write_atomically

VERSION = 1
RECORD = "audit.json"


@dataclass(frozen=True)
class Verdict:
    """What an audit comes to.

    Attributes:
        reference: its file's name.
        candidates: what was found of each, and every rule held against it.
        images: how many were looked at.
        set_aside: images that could not be read, and why.
        settings: digests of what was compared, and how: two audits with other ones are compared with care.
    """

    reference: str
    candidates: Sequence[tuple[Audited, Sequence[Ruling]]]
    images: int
    set_aside: Sequence[tuple[str, str]]
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def passed(self) -> bool:
        """Whether every rule holds for every candidate, and none died on the way."""
        return all(is_fine(*candidate) for candidate in self.candidates)

    @property
    def exit_code(self) -> int:
        """0 passed; 1 a gate failed; 4 passed, with images set aside."""
        if not self.passed:
            return 1
        return 4 if self.set_aside else 0

    def to_json(self) -> dict[str, Any]:
        """The record that ``audit.schema.json`` describes."""
        return {
            "version": VERSION, "sightline": __version__, "reference": self.reference, "images": self.images,
            "set_aside": [{"id": one, "reason": reason} for one, reason in self.set_aside], "passed": self.passed,
            "settings": dict(self.settings),
            "candidates": [
                {
                    "name": audited.name, "sha256": audited.sha256, "passed": is_fine(audited, rulings),
                    "not_measured": [ruling.rule.figure for ruling in rulings if ruling.state == "not measured"],
                    "figures": audited.figures, "per_class": audited.per_class,
                    "findings": [{"section": section, **asdict(one)} for section, one in audited.findings],
                    "crashes": dict(audited.crashes), "rules": [to_json(ruling) for ruling in rulings],
                    "seconds": {name: one.seconds for name, one in audited.outcomes.items()},
                }
                for audited, rulings in self.candidates
            ],
        }  # fmt: skip


def is_fine(audited: Audited, rulings: Sequence[Ruling]) -> bool:
    """Whether a candidate may be shipped: a process that died is no less a fault than a rule that does not hold."""
    return not audited.crashes and all(ruling.holds for ruling in rulings)


def schema() -> dict[str, Any]:
    """The JSON Schema of ``audit.json``."""
    return json.loads(files("sightline.audit").joinpath("audit.schema.json").read_text(encoding="utf-8"))


def write(verdict: Verdict, folder: Path) -> None:
    """All three files."""
    write_atomically(folder / RECORD, [json.dumps(verdict.to_json(), indent=1, ensure_ascii=False).encode()])
    write_atomically(folder / "junit.xml", [junit(verdict)])
    write_atomically(folder / "summary.md", [summary(verdict).encode()])


def junit(verdict: Verdict) -> bytes:
    """A test case per rule and candidate, one per crash, and one for the gate itself, which fails if any does."""
    cases, broken = list[ElementTree.Element](), 0

    def case(of: str, name: str, outcome: str = "", told: str = "") -> None:
        cases.append(ElementTree.Element("testcase", classname=_text(of), name=_text(name)))
        if outcome:
            ElementTree.SubElement(cases[-1], outcome, message=_text(told))

    for audited, rulings in verdict.candidates:
        for ruling in rulings:
            unknown = "skipped" if ruling.state == "not measured" else ""
            case(audited.name, str(ruling.rule), unknown if ruling.holds else "failure", ruling.text)
            broken += not ruling.holds
        for section, how in audited.crashes.items():
            case(audited.name, f"{section} ends", "failure", f"The process died: {how}")
            broken += 1
    told = f"{broken} of {len(cases)} do not hold."
    case(verdict.reference, "gate", "" if verdict.passed else "failure", told)
    suite = ElementTree.Element(
        "testsuite", name="sightline audit", tests=str(len(cases)), failures=str(broken + (not verdict.passed))
    )
    suite.extend(cases)
    return ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)


def summary(verdict: Verdict) -> str:
    """A few lines for a pull request."""
    lines = [f"## Audit against {verdict.reference}: {'passed' if verdict.passed else 'failed'}", ""]
    for audited, rulings in verdict.candidates:
        broken = [ruling for ruling in rulings if not ruling.holds]
        lines += [f"### {audited.name}: {tally(rulings)}", ""]
        lines += [f"- **{ruling.text}**" for ruling in broken]
        lines += [f"- {ruling.text}" for ruling in unmeasured(rulings)]
        lines += [f"- {one.severity}, {section}: {one.text}" for section, one in audited.findings]
        lines += ["", "| figure | value |", "|---|---|"]
        shown = dict.fromkeys(ruling.rule.figure for ruling in rulings)
        lines += [f"| {name} | {_number(audited.figures.get(name))} |" for name in shown]
        lines.append("")
    if verdict.set_aside:
        lines.append(
            f"{len(verdict.set_aside)} of {verdict.images + len(verdict.set_aside)} images could not be read."
        )
    return "\n".join(lines) + "\n"


def read_record(path: Path) -> Mapping[str, Any]:
    """An ``audit.json``.

    Raises:
        UsageError: it is none, or of another version.
    """
    path = path / RECORD if path.is_dir() else path
    try:
        record: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as reason:
        raise UsageError(f"{path} is no audit: {reason}") from reason
    if not isinstance(record, dict) or record.get("version") != VERSION or "candidates" not in record:
        raise UsageError(f"{path} is no audit of version {VERSION}.")
    return record


def candidate_of(record: Mapping[str, Any], name: str, *, alone: bool) -> Mapping[str, Any] | None:
    """A candidate of an audit: that of the name, or, if ours is ``alone``, the only one there is."""
    found = {one["name"]: one for one in record["candidates"]}
    return found.get(name, next(iter(found.values())) if alone and len(found) == 1 else None)


def before(record: Mapping[str, Any], name: str, *, alone: bool) -> Before:
    """What an earlier audit found of a candidate; nothing where it lacks that."""
    found = candidate_of(record, name, alone=alone)
    return Before({}) if found is None else Before(found["figures"], found.get("per_class", {}))


def unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What two audits do not have in common, so that their figures say more than that a candidate changed."""
    settings = one.get("settings", {}), other.get("settings", {})
    names = {"reference_sha256": "another reference", "photographs_sha256": "other photographs", "options": "options"}
    return [
        f"{told} ({', '.join(_changed(*(side[name] for side in settings)))})" if name == "options" else told
        for name, told in names.items()
        if all(name in side for side in settings) and settings[0][name] != settings[1][name]
    ]


def _changed(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [f"{name} {one.get(name)} -> {value}" for name, value in other.items() if one.get(name) != value]


def difference(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> list[tuple[str, str, float | None, float | None]]:
    """Candidate, figure and both values, of every figure that changed."""
    rows = list[tuple[str, str, float | None, float | None]]()
    for one in after["candidates"]:
        known = candidate_of(before, one["name"], alone=len(after["candidates"]) == 1)
        old: Mapping[str, float | None] = {} if known is None else known["figures"]
        for name in dict.fromkeys([*old, *one["figures"]]):
            pair = old.get(name), one["figures"].get(name)
            if pair[0] != pair[1]:
                rows.append((one["name"], name, *pair))
    return rows


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"


def _text(text: str) -> str:
    """Without what XML cannot hold."""
    return "".join(letter if letter >= " " or letter in "\t\n" else "?" for letter in text)
