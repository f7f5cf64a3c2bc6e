"""A walk through what a network sees: sightline tour MODEL IMAGES… -o DIR."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from sightline.audit.context import Artefact, Options, readable
from sightline.bank.labels import labels_of
from sightline.commands._options import ModelOptions, Threads
from sightline.errors import OutputConflict, UnknownName, UsageError
from sightline.job.files import make_folder, write_atomically
from sightline.job.inputs import inputs_from
from sightline.report.tour_page import write_page
from sightline.tour.chapter import Visited, chapters
from sightline.tour.visit import Visit
from sightline.tour.walk import walk

RESULT = "tour.json"


def tour(
    model: Annotated[str, Parameter(help="An .onnx file, demo, torchvision:NAME[@WEIGHTS] or timm:NAME.")],
    /,
    *images: Annotated[str, Parameter(help="Image files, folders or patterns.")],
    out: Annotated[Path, Parameter(name=("--out", "-o"), help="Folder of the page and of tour.json.")],
    labels_by: Annotated[
        str | None, Parameter(help="What is on each photograph: folder, number, or a table of id and label.")
    ] = None,
    chapter: Annotated[tuple[str, ...], Parameter(help="Only these chapters, one per flag; all unless given.")] = (),
    limit: Annotated[int | None, Parameter(help="At most so many images.")] = 400,
    seed: Annotated[int, Parameter(help="Of what is drawn.")] = 0,
    threads: Threads = None,
    json: Annotated[bool, Parameter(help="Print one JSON object on stdout, nothing else.", negative="")] = False,
    model_options: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
) -> int:
    """Ask a network the questions of a course on seeing networks, and answer each by measuring it."""
    if not images:
        raise UsageError("Name the images: files, folders or patterns.")
    if (limit is not None and limit < 1) or seed < 0:
        raise UsageError("--limit must be at least 1, --seed at least 0.")
    names = [one.name for one in chapters()]
    for one in chapter:
        if one not in names:
            raise UnknownName("chapter", one, names)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / RESULT).is_file())):
        raise OutputConflict(f"{out} is not empty and holds no tour. Choose a folder that is new or empty.")
    kept, aside, _ = readable(inputs_from(images).entries[:limit])
    for one, reason in aside:
        print(f"Set aside: {one}: {reason}", file=sys.stderr)
    with model_options.load(model) as network:
        truth = None
        if labels_by is not None:
            named = labels_of(labels_by, [one.id for one in kept], [one.place for one in kept])
            truth = np.unique(named, return_inverse=True)[1].astype(np.int64)
        options = Options(threads=threads, seed=seed)
        visit = Visit(Artefact(network, options, kept), truth, network.labels, threads, seed)
        found = list[Visited]()
        for visited in walk(visit, chapter):
            found.append(visited)
            _tell(visited)
        make_folder(out)
        page = write_page(out / "tour.html", network, len(kept), found)
        record: dict[str, object] = {
            "command": "tour",
            "model": network.path.name,
            "images": len(kept),
            "page": str(page),
        }
        record["chapters"] = [_record(one) for one in found]
    write_atomically(out / RESULT, [json_format.dumps(record, indent=1).encode()])
    print(json_format.dumps(record) if json else page)
    return 4 if aside else 0


def _tell(visited: Visited) -> None:
    said = f"not answered: {visited.reason}" if visited.answer is None else visited.answer.text
    print(f"{visited.chapter.title}, {visited.seconds:.1f} s: {said}", file=sys.stderr)


def _record(visited: Visited) -> dict[str, object]:
    answer = visited.answer
    return {
        "name": visited.chapter.name,
        "question": visited.chapter.question,
        "seconds": visited.seconds,
        "answer": None if answer is None else answer.text,
        "reason": visited.reason,
        "holds": None if answer is None else answer.holds,
        "figures": {} if answer is None else dict(answer.figures),
    }
