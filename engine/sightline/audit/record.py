"""An audit as files: audit.json for programs, junit.xml for builds, summary.md for pull requests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from sightline import __version__
from sightline.audit.gates import Ruling, tally, to_json, unmeasured
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
    """

    reference: str
    candidates: Sequence[tuple[Audited, Sequence[Ruling]]]
    images: int
    set_aside: Sequence[tuple[str, str]]

    @property
    def passed(self) -> bool:
        """Whether every rule holds for every candidate."""
        return all(ruling.holds for _, rulings in self.candidates for ruling in rulings)

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
            "candidates": [
                {
                    "name": audited.name, "passed": all(ruling.holds for ruling in rulings),
                    "not_measured": [ruling.rule.figure for ruling in rulings if ruling.state == "not measured"],
                    "figures": audited.figures,
                    "findings": [{"section": section, **asdict(one)} for section, one in audited.findings],
                    "crashes": dict(audited.crashes), "rules": [to_json(ruling) for ruling in rulings],
                    "seconds": {name: one.seconds for name, one in audited.outcomes.items()},
                }
                for audited, rulings in self.candidates
            ],
        }  # fmt: skip


def schema() -> dict[str, Any]:
    """The JSON Schema of ``audit.json``."""
    return json.loads(files("sightline.audit").joinpath("audit.schema.json").read_text(encoding="utf-8"))


def write(verdict: Verdict, folder: Path) -> None:
    """All three files."""
    write_atomically(folder / RECORD, [json.dumps(verdict.to_json(), indent=1, ensure_ascii=False).encode()])
    write_atomically(folder / "junit.xml", [junit(verdict)])
    write_atomically(folder / "summary.md", [summary(verdict).encode()])


def junit(verdict: Verdict) -> bytes:
    """A test case per rule and candidate, and one for the gate itself, which fails if any of them does."""
    rulings = [(audited.name, ruling) for audited, all_ in verdict.candidates for ruling in all_]
    failures = sum(not ruling.holds for _, ruling in rulings) + (not verdict.passed)
    suite = ElementTree.Element(
        "testsuite", name="sightline audit", tests=str(len(rulings) + 1), failures=str(failures)
    )
    for name, ruling in rulings:
        case = ElementTree.SubElement(suite, "testcase", classname=_text(name), name=_text(str(ruling.rule)))
        if not ruling.holds:
            ElementTree.SubElement(case, "failure", message=_text(ruling.text))
        elif ruling.state == "not measured":
            ElementTree.SubElement(case, "skipped", message=_text(ruling.text))
    gate = ElementTree.SubElement(suite, "testcase", classname=_text(verdict.reference), name="gate")
    if not verdict.passed:
        ElementTree.SubElement(gate, "failure", message=f"{failures - 1} of {len(rulings)} rules do not hold.")
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


def figures_of(record: Mapping[str, Any], candidate: str) -> dict[str, float | None] | None:
    """Figures of a candidate in an audit: that of the name, or the only one there is."""
    found = {one["name"]: one["figures"] for one in record["candidates"]}
    if candidate in found:
        return found[candidate]
    return next(iter(found.values())) if len(found) == 1 else None


def difference(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> list[tuple[str, str, float | None, float | None]]:
    """Candidate, figure and both values, of every figure that changed."""
    rows = list[tuple[str, str, float | None, float | None]]()
    for one in after["candidates"]:
        old = figures_of(before, one["name"]) or {}
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
