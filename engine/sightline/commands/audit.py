"""Compare a deployed artefact with its reference: sightline audit REFERENCE CANDIDATE… --images DIR -o DIR."""

from __future__ import annotations

import hashlib
import json as json_format
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from sightline.audit.context import OTHERS, Options, check_pair, readable
from sightline.audit.gates import Rule, judged, read_gates, tally, unmeasured
from sightline.audit.record import Verdict, difference, read_record, unlike, write
from sightline.audit.record import before as before_of
from sightline.audit.run import Audited, CannotAudit, audit_one, section_names
from sightline.audit.section import known_figures, sections
from sightline.audit.sections.shortcuts import masks as mask_files
from sightline.audit.worker import Source, Task
from sightline.bank.labels import labels_of
from sightline.commands._options import ModelOptions, Threads
from sightline.errors import BadModel, OutputConflict, UnknownName, UsageError
from sightline.file_names import free_name
from sightline.job.files import make_folder, write_atomically
from sightline.job.inputs import Input, Inputs, inputs_from
from sightline.methods.forward.predict import Predict
from sightline.model import Model
from sightline.report.audit_page import write_page
from sightline.routes.base import Device

QUIET = 15.0  # seconds between two lines of one section
PHOTOGRAPHS = "photographs"  # those that have no file of their own
REFERENCE = "reference"  # one that was exported for the audit
SETTINGS = "settings.json"  # of the audit in a folder: only the same one goes on


def audit(
    reference: Annotated[
        str | None, Parameter(help="The trained model: a file, torchvision:NAME or timm:NAME.")
    ] = None,
    /,
    *candidates: Annotated[str, Parameter(help="Artefacts that are shipped: .onnx files.")],
    images: Annotated[
        tuple[str, ...],
        Parameter(
            help="Photographs: folders, files or patterns, one or several, behind the models.",
            consume_multiple=True,
        ),
    ] = (),
    out: Annotated[Path | None, Parameter(name=("--out", "-o"), help="Folder of the audit.")] = None,
    labels_by: Annotated[
        str | None, Parameter(help="What is on each photograph: folder, number, or a table of id and label.")
    ] = None,
    gates: Annotated[Path | None, Parameter(help="Rules in TOML; those that are shipped unless given.")] = None,
    baseline: Annotated[
        Path | None, Parameter(help="Earlier audit.json that max_rise and max_fall hold against.")
    ] = None,
    section: Annotated[
        tuple[str, ...],
        Parameter(help="Only these sections, one or several; all unless given.", consume_multiple=True),
    ] = (),
    maps: Annotated[int, Parameter(help="Photographs whose maps are compared.")] = 24,
    window: Annotated[int, Parameter(help="Side of the occlusion window in pixels, at most.")] = 32,
    stride: Annotated[int, Parameter(help="Pixels between two windows, at most.")] = 16,
    attacked: Annotated[int, Parameter(help="Photographs that are corrupted and attacked.")] = 16,
    thorough: Annotated[
        bool,
        Parameter(help="All severities, RISE beside Score-CAM, 200 queries; a multiple of the time.", negative=""),
    ] = False,
    maps_by: Annotated[
        tuple[str, ...] | None,
        Parameter(help="Maps compared beside occlusion's: score_cam, rise or none; score_cam unless given."),
    ] = None,
    rise_masks: Annotated[int, Parameter(help="Masks that RISE draws for each photograph.")] = 500,
    severities: Annotated[
        tuple[int, ...] | None, Parameter(help="Of corruptions, 1 to 5; 1, 3 and 5 unless given.")
    ] = None,
    queries: Annotated[
        int | None, Parameter(help="Of the black-box attack, for each photograph and size; 30 unless given.")
    ] = None,
    masks: Annotated[
        Path | None, Parameter(help="Folder of masks named like the photographs, white where nothing should decide.")
    ] = None,
    limit: Annotated[int | None, Parameter(help="At most so many photographs.")] = None,
    seed: Annotated[int, Parameter(help="Of noise and shuffles.")] = 0,
    threads: Threads = None,
    device: Annotated[Device, Parameter(help="That runs the candidates; the reference runs on the CPU.")] = "cpu",
    diff: Annotated[
        tuple[Path, ...],
        Parameter(help="Two audits, before and after: tell which figures changed.", consume_multiple=True),
    ] = (),
    explain: Annotated[str | None, Parameter(help="Tell what a figure means and which rules hold it.")] = None,
    json: Annotated[bool, Parameter(help="Print one JSON object on stdout, nothing else.", negative="")] = False,
    model_options: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
) -> int:
    """Does the deployed artefact still look at the same things? Exits 1 if a gate fails."""
    rules = read_gates(gates)
    if explain is not None:
        return _explain(explain, rules)
    if diff:
        return _diff(diff, json=json)
    if reference is None or not candidates or not images or out is None:
        raise UsageError(
            "Give a reference, candidates and photographs: sightline audit REF.onnx CAND.onnx --images DIR -o DIR. "
            "Models come first: all that follows --images, up to the next flag, is taken for photographs."
        )
    chosen = (one for one in (limit, queries) if one is not None)
    counts = (maps, window, stride, attacked, rise_masks, *chosen)
    if min(counts) < 1 or seed < 0:
        raise UsageError(
            "--maps, --window, --stride, --attacked, --rise-masks, --queries and --limit must be at least 1, --seed "
            "at least 0."
        )
    unknown = [one for one in section if one not in section_names()]
    if unknown:
        raise UnknownName("section", unknown[0], section_names())
    before = None if baseline is None else read_record(baseline)
    options = Options(
        threads=threads, seed=seed, maps=maps, window=window, stride=stride, attacked=attacked,
        masks="" if masks is None else str(masks.resolve()), rise_masks=rise_masks, device=device,
        **_depth(thorough, maps_by, severities, queries),
    )  # fmt: skip
    inputs = Inputs(inputs_from(images).entries[:limit])
    kept, aside, photographs = readable(inputs.entries)
    shown = [] if masks is None else mask_files(masks, [one.id for one in kept])
    files, wanted = _as_files(kept, out), list(section) or section_names()
    with model_options.load(_as_file(reference, out, model_options)) as trained:
        truth, ours = _truth(labels_by, kept, trained), Source.of(trained)
        opened = {name: _opened(path, trained, model_options, device) for name, path in _names(candidates).items()}
        labels, title = list(trained.labels), trained.path.name
    broken = {name: one for name, one in opened.items() if isinstance(one, BadModel)}
    if len(broken) == len(opened):
        raise next(iter(broken.values()))
    places = {name: out / "candidates" / name for name in opened}
    tasks = [
        Task(ours, one, files, truth, labels, options, str(places[name]), wanted)
        for name, one in opened.items()
        if isinstance(one, Source)
    ]
    digest = hashlib.sha256(b"".join(one.read_bytes() for one in shown)).hexdigest()
    _claim(out, tasks, reference=f"{reference} {model_options.weights or ''}", photographs=photographs, masks=digest)
    found = {name: Audited(name, {}, {"opening": str(reason)}) for name, reason in broken.items()}
    found |= {Path(task.folder).name: _audited(task) for task in tasks}
    held, alone = _held(rules, section), len(opened) == 1
    known = {name: None if before is None else before_of(before, name, alone=alone) for name in opened}
    judgements = [(found[name], judged(held, found[name].outcomes, known[name])) for name in opened]
    settings = {
        "reference_sha256": ours.sha256, "photographs_sha256": photographs, "options": asdict(options),
    }  # fmt: skip
    verdict = Verdict(title, judgements, len(kept), aside, settings)
    write(verdict, out)
    page = write_page(out / "report.html", verdict, list(places.values()))
    _tell(verdict, page, json=json)
    return verdict.exit_code


def _depth(
    thorough: bool, maps_by: tuple[str, ...] | None, severities: tuple[int, ...] | None, queries: int | None
) -> dict[str, Any]:
    """How much is measured, where that was said; what was named goes before ``--thorough``.

    Raises:
        UnknownName: a method whose maps are not compared.
        UsageError: a severity out of range.
    """
    asked: dict[str, Any] = {"maps_by": OTHERS, "severities": (1, 2, 3, 4, 5), "queries": 200} if thorough else {}
    if maps_by is not None:
        unknown = [one for one in maps_by if one not in (*OTHERS, "none")]
        if unknown:
            raise UnknownName("way to make maps", unknown[0], [*OTHERS, "none"])
        asked["maps_by"] = tuple(one for one in OTHERS if one in maps_by)
    if severities is not None:
        if not severities or not set(severities) <= {1, 2, 3, 4, 5}:
            raise UsageError(f"--severities {' '.join(map(str, severities))} must lie in 1 to 5.")
        asked["severities"] = tuple(sorted(set(severities)))
    return asked | ({} if queries is None else {"queries": queries})


def _held(rules: Sequence[Rule], section: Sequence[str]) -> list[Rule]:
    """The rules on sections that were asked for."""
    return [rule for rule in rules if not section or rule.figure.partition(".")[0] in section]


def _as_file(reference: str, out: Path, options: ModelOptions) -> str:
    """The reference as a file that other processes can open: one that is exported is kept beside the audit."""
    if not reference.startswith(("torchvision:", "timm:")):
        return reference
    from sightline_exporters import export

    words = [reference.partition(":")[2], "" if options.weights is None else Path(options.weights).stem]
    path = out / REFERENCE / f"{free_name('-'.join(filter(None, words)), set())}.onnx"
    make_folder(path.parent)
    if not path.is_file():
        export(reference, path, weights=options.weights)
    return str(path)


def _as_files(kept: Sequence[Input], out: Path) -> list[tuple[str, str]]:
    """Id and file of each photograph; what lies in an archive or behind a URL is copied beside the audit."""
    found, taken = list[tuple[str, str]](), set[str]()
    for one in kept:
        path = one.path
        if path is None:
            path = out / PHOTOGRAPHS / free_name(one.id, taken)
            make_folder(path.parent)
            if not path.is_file():
                write_atomically(path, [one.read()])
        found.append((one.id, str(path)))
    return found


def _names(candidates: Sequence[str]) -> dict[str, str]:
    """Each candidate by the name that it is told under, and its folder has."""
    taken = set[str]()
    return {free_name(Path(one).stem, taken): one for one in candidates}


def _opened(path: str, trained: Model, options: ModelOptions, device: Device) -> Source | BadModel:
    """How to open a candidate again, or why that cannot be done.

    Raises:
        UsageError: it does not answer the reference's question.
        MissingProvider: the device cannot run it here.
    """
    try:
        with _candidate(path, trained, options) as candidate:
            check_pair(trained, candidate)
            candidate.plan(Predict(), device=device)
            return Source.of(candidate)
    except BadModel as reason:
        return reason


def _candidate(path: str, trained: Model, options: ModelOptions) -> Model:
    """A candidate; what its file does not say of the images is what the reference's does."""
    from sightline.model import load

    found = load(path, output=options.output, size=trained.input_size if trained.input.size is None else None)
    if not found.has_preprocess:
        found.preprocess = trained.preprocess
    return found


def _truth(rule: str | None, kept: Sequence[Any], trained: Model) -> dict[str, int]:
    """Class of each photograph by id.

    Raises:
        UsageError: a label that is no class of the model.
    """
    if rule is None:
        return {}
    named = labels_of(rule, [one.id for one in kept], [one.place for one in kept])
    known = {str(index): index for index in range(max(trained.class_count, 2))}  # a single score: no and yes
    known |= {label: index for index, label in enumerate(trained.labels)}  # names go before numbers
    several = {label for label, count in Counter(trained.labels).items() if count > 1}
    for label in named:
        if label not in known:
            raise UnknownName("class", label, known)
        if label in several:
            raise UsageError(
                f"Several classes of {trained.path.name} are called {label!r}: give the photographs' labels as class "
                "numbers instead."
            )
    return {one.id: known[label] for one, label in zip(kept, named, strict=True)}


def _claim(out: Path, tasks: Sequence[Task], **others: str) -> None:
    """Make the folder, or see that what lies there is this very audit, of the same contents."""
    pairs = [{**vars(task), "wanted": []} for task in tasks]
    asked = json_format.dumps({"pairs": pairs, **others}, default=vars, sort_keys=True)
    path = out / SETTINGS
    if path.is_file():
        if path.read_text(encoding="utf-8") != asked:
            raise OutputConflict(f"{out} holds an audit of other models, photographs or options. Choose another -o.")
        return
    foreign = any(one.name not in (REFERENCE, PHOTOGRAPHS) for one in out.iterdir()) if out.is_dir() else False
    if out.exists() and (not out.is_dir() or foreign):
        raise OutputConflict(f"{out} is not empty and holds no audit. Choose a folder that is new or empty.")
    make_folder(out)
    write_atomically(path, [asked.encode()])


def _audited(task: Task) -> Audited:
    name = Path(task.folder).name
    try:
        return audit_one(task, progress=SectionLines(name))
    except CannotAudit as reason:
        return Audited(name, {}, {"opening": str(reason)}, task.candidate.sha256)


class SectionLines:
    """A line on stderr when a section begins, and now and then while it runs."""

    def __init__(self, name: str):
        self._name, self._section, self._told = name, "", 0.0
        self._start = self._began = time.monotonic()
        self._worked = 0.0  # share of an audit that was done since the start

    def __call__(self, section: str, done: int, total: int) -> None:
        now = time.monotonic()
        if not section or (section == self._section and now - self._told < QUIET):
            return
        if section != self._section:
            self._worked += sum(one.share for one in sections() if one.name == self._section)
            self._section, self._began = section, now
        self._told = now
        print(f"{self._name}: {section}, {done} of {total} sections done{self._left(now)}", file=sys.stderr)

    def _left(self, now: float) -> str:
        names = section_names()
        ahead = sum(one.share for one in sections() if self._section in names[: names.index(one.name) + 1])
        if self._section not in names or self._worked < 0.02:  # too little to tell the rest by
            return ""
        rest = ahead * (self._began - self._start) / self._worked - (now - self._began)
        return f", about {max(rest, 0):.0f} s left"


def _explain(figure: str, rules: Sequence[Rule]) -> int:
    known = known_figures()
    if figure not in known:
        raise UnknownName("figure", figure, known)
    print(f"{figure}: {known[figure]}.")
    for rule in rules:
        if rule.figure == figure:
            print(f"Rule: {rule}. {rule.why}")
    return 0


def _diff(paths: Sequence[Path], *, json: bool) -> int:
    if len(paths) != 2:
        raise UsageError(f"--diff compares two audits, {len(paths)} given: --diff BEFORE.json AFTER.json.")
    records = read_record(paths[0]), read_record(paths[1])
    rows = difference(*records)
    for told in unlike(*records):
        print(f"The two audits have {told}: figures may differ for that.", file=sys.stderr)
    if json:
        print(
            json_format.dumps(
                [dict(zip(("candidate", "figure", "before", "after"), row, strict=True)) for row in rows]
            )
        )
        return 0
    for candidate, figure, old, new in rows:
        print(f"{candidate}: {figure}: {_number(old)} -> {_number(new)}")
    if not rows:
        print("No figure changed.")
    return 0


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"


def _tell(verdict: Verdict, page: Path, *, json: bool) -> None:
    if json:
        record: Mapping[str, Any] = {"command": "audit", "report": str(page), **verdict.to_json()}
        print(json_format.dumps(record, ensure_ascii=False))
        return
    for audited, rulings in verdict.candidates:
        broken = [ruling for ruling in rulings if not ruling.holds]
        print(f"{audited.name}: {tally(rulings)}.")
        for ruling in broken:
            print(f"  failed   {ruling.text}")
        for ruling in unmeasured(rulings):
            print(f"  unknown  {ruling.text}")
        for section, one in audited.findings:
            print(f"  {one.severity:<8} {section}: {one.text}")
    for one, reason in verdict.set_aside:
        print(f"Set aside: {one}: {reason}", file=sys.stderr)
    print(f"{'Passed' if verdict.passed else 'Failed'}. {page}")
