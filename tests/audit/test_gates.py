"""Rules, verdicts and the files that tell them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.audit.gates import Before, Rule, judged, read_gates
from sightline.audit.record import Verdict, before, difference, junit, read_record, schema, summary, unlike, write
from sightline.audit.run import Audited
from sightline.audit.section import Finding, Outcome, known_figures, sections
from sightline.errors import UnknownName, UsageError

FIGURES = sorted(known_figures())
NUMBERS = st.one_of(st.none(), st.floats(-2, 2), st.just(float("nan")))


def outcome(**figures: float | None) -> Outcome:
    return Outcome(figures, (Finding("note", "something <&> else"),), {"top1_agreement": {"cat": 0.5, "dog": 1.0}})


def gate(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gates.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_rules_that_are_shipped_say_why() -> None:
    rules = read_gates(None)
    assert len(rules) >= 8
    assert all(rule.why and rule.figure in known_figures() for rule in rules)


@pytest.mark.parametrize(
    ("rule", "value", "state"),
    [
        (Rule("parity.top1_agreement", min=0.9), 0.9, "passed"),
        (Rule("parity.top1_agreement", min=0.9), 0.89, "failed"),
        (Rule("parity.top1_agreement", max=0.5), 0.51, "failed"),
        (Rule("parity.top1_agreement", min=0.1, max=0.5), 0.3, "passed"),
        (Rule("parity.top1_agreement", min=0.9), None, "not measured"),
        (Rule("parity.top1_agreement", min=0.9), float("nan"), "not measured"),
        (Rule("parity.top1_agreement", min=0.6, per_class=True), 0.8, "failed"),  # cat has 0.5
        (Rule("parity.top1_agreement", min=0.4, per_class=True), 0.8, "passed"),
    ],
)
def test_bounds(rule: Rule, value: float | None, state: str) -> None:
    (ruling,) = judged([rule], {"parity": outcome(top1_agreement=value)})
    assert ruling.state == state
    assert ruling.holds == (state == "passed")


@pytest.mark.parametrize(("value", "holds"), [(0.9, True), (0.79, False), (0.8, True)])
def test_changes_since_a_baseline(value: float, holds: bool) -> None:
    rule, outcomes = Rule("parity.top1_agreement", max_fall=0.1), {"parity": outcome(top1_agreement=value)}
    (ruling,) = judged([rule], outcomes, Before({"parity.top1_agreement": 0.9}))
    assert ruling.holds == holds
    assert (ruling.state == "passed") == holds
    (risen,) = judged(
        [Rule("parity.top1_agreement", max_rise=0.05)], outcomes, Before({"parity.top1_agreement": 0.5})
    )
    assert not risen.holds


def test_a_change_that_nobody_knows_is_not_measured() -> None:
    rule, outcomes = Rule("parity.top1_agreement", max_fall=0.1), {"parity": outcome(top1_agreement=0.9)}
    (first,) = judged([rule], outcomes)  # nothing to hold it against yet
    assert (first.state, first.holds) == ("not measured", True)
    (lost,) = judged([rule], outcomes, Before({}))  # an earlier audit that says nothing of it
    assert (lost.state, lost.holds) == ("not measured", False)


def test_changes_are_held_in_every_class() -> None:
    rule = Rule("parity.top1_agreement", max_fall=0.1, per_class=True)
    outcomes = {"parity": outcome(top1_agreement=0.9)}
    known = outcomes["parity"].per_class["top1_agreement"]
    before = {"parity.top1_agreement": {label: value + 0.2 for label, value in list(known.items())[:1]}}
    (ruling,) = judged([rule], outcomes, Before({"parity.top1_agreement": 0.9}, before))
    assert (ruling.state, ruling.holds) == ("failed", False)
    assert next(iter(known)) in ruling.text


def test_a_rule_by_class_needs_classes() -> None:
    (ruling,) = judged([Rule("parity.cosine", min=0.1, per_class=True)], {"parity": outcome(cosine=0.9)})
    assert (ruling.state, ruling.holds) == ("not measured", False)


def test_a_crash_leaves_rules_unmeasured_and_those_fail() -> None:
    rules = [Rule("drift.drifted", max=0.5), Rule("drift.drifted", max=0.5, optional=True)]
    assert [one.holds for one in judged(rules, {})] == [False, False]
    nothing = {"drift": Outcome({"drifted": None})}
    assert [one.holds for one in judged(rules, nothing)] == [False, True]  # it ran, and found nothing to measure


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[[rule]]\nfigure = 'parity.top1_agrement'\nmin = 1",
            r"No figure is named .*Did you mean 'parity.top1_agreement'",
        ),
        ("[[rule]]\nfigure = 'parity.cosine'", r"needs a number as min, max"),
        ("[[rule]]\nfigure = 'parity.cosine'\nmin = 'high'", r"needs a number"),
        (
            "[[rule]]\nfigure = 'parity.cosine'\nmin = 1\nseverity = 2",
            r"does not have severity. Accepted: figure, max",
        ),
        ("[[rules]]\nfigure = 'parity.cosine'", r"holds no rules. Each begins with \[\[rule\]\]"),
        ("not toml", r"cannot be read"),
    ],
)
def test_gates_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises((UsageError, UnknownName), match=message):
        read_gates(gate(tmp_path, text))


def verdicts() -> st.SearchStrategy[Verdict]:
    rule = st.builds(
        Rule, st.sampled_from(FIGURES), min=st.one_of(st.none(), st.floats(-2, 2)),
        max=st.one_of(st.none(), st.floats(-2, 2)), optional=st.booleans(), why=st.text(max_size=20),
    )  # fmt: skip

    def candidate(drawn: Any) -> Any:
        name, values, rules, died = drawn
        outcomes: dict[str, Outcome] = {}
        for figure, value in values.items():
            section, _, key = figure.partition(".")
            before = outcomes.get(section, Outcome({}, (Finding("warning", "a\x00b"),)))
            outcomes[section] = Outcome({**before.figures, key: value}, before.findings)
        known = {key: Outcome.from_json(one.to_json()) for key, one in outcomes.items()}
        return Audited(name, known, {"drift": "SIGABRT"} if died else {}), judged(rules, known)

    drawn = st.tuples(
        st.text(min_size=1, max_size=8),
        st.dictionaries(st.sampled_from(FIGURES), NUMBERS),
        st.lists(rule, max_size=4),
        st.booleans(),
    )
    parts = st.lists(drawn.map(candidate), min_size=1, max_size=3)
    return st.builds(
        Verdict, st.just("ref.onnx"), parts, st.integers(1, 9), st.sampled_from([(), (("x.png", "no image"),)])
    )


@settings(max_examples=150, deadline=None)
@given(verdicts())
def test_exit_code_and_junit_never_disagree(verdict: Verdict) -> None:
    suite = ElementTree.fromstring(junit(verdict))
    cases = suite.findall("testcase")
    failures = [case for case in cases if case.find("failure") is not None]
    assert int(suite.attrib["tests"]) == len(cases)
    assert int(suite.attrib["failures"]) == len(failures)
    assert bool(failures) == (verdict.exit_code == 1)
    assert (cases[-1].find("failure") is not None) == (not verdict.passed)
    record = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    jsonschema.validate(record, schema())
    assert record["passed"] == verdict.passed == (verdict.exit_code in (0, 4))
    assert "Audit against ref.onnx" in summary(verdict)


def test_audits_on_disk_are_compared(tmp_path: Path) -> None:
    def audited(value: float) -> Verdict:
        found = Audited("net", {"parity": outcome(cosine=value, sqnr_db=30.0)}, {})
        return Verdict("ref.onnx", [(found, judged(read_gates(None)[:1], found.outcomes))], 3, ())

    for name, value in (("old", 0.9), ("new", 0.8)):
        (tmp_path / name).mkdir()
        write(audited(value), tmp_path / name)
    old, new = read_record(tmp_path / "old"), read_record(tmp_path / "new" / "audit.json")
    assert difference(old, new) == [("net", "parity.cosine", 0.9, 0.8)]
    assert before(old, "another name", alone=True) == before(old, "net", alone=False)  # the only one there is
    assert before(old, "another name", alone=False).figures == {}
    assert unlike(old, {**new, "settings": {"photographs_sha256": "1"}}) == []
    told = unlike({"settings": {"photographs_sha256": "0"}}, {"settings": {"photographs_sha256": "1"}})
    assert told == ["other photographs"]
    (tmp_path / "new" / "audit.json").write_text('{"version": 2}')
    with pytest.raises(UsageError, match="no audit of version 1"):
        read_record(tmp_path / "new")


def test_every_section_explains_its_figures() -> None:
    names = [one.name for one in sections()]
    assert names[0] == "identity"
    assert {
        "identity",
        "environment",
        "parity",
        "drift",
        "faithfulness",
        "robustness",
        "shortcuts",
        "performance",
    } <= set(names)
    assert all(len(meaning) > 10 for meaning in known_figures().values())
