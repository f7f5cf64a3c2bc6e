"""One candidate's sections, in a process of their own: a crash there is a finding here.

Run as ``python -m sightline.audit.worker TASK.json``. Every section that is done is a file; one that is there already
is not repeated.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sightline.audit.context import Artefact, Context, Options, check_pair
from sightline.audit.section import sections
from sightline.errors import BadModel
from sightline.job.files import write_atomically
from sightline.job.inputs import Input
from sightline.model import Model, load
from sightline.preprocess import Preprocess

WATCH = 0.5  # seconds between two looks for the process that started this one
RUNNING = "running.txt"  # the section at work, so that whoever finds the process dead knows where it died


@dataclass(frozen=True)
class Source:
    """How to open an artefact again in another process."""

    path: str
    preprocess: str  # as JSON
    size: tuple[int, int] | None
    output: str
    sha256: str

    @classmethod
    def of(cls, model: Model) -> Source:
        """Of an opened one."""
        size = model.input_size if model.input.size is None else None
        return cls(str(model.path), model.preprocess.to_json(), size, model.output, model.sha256)

    def load(self) -> Model:
        """Open it.

        Raises:
            BadModel: it is another file by now.
        """
        found = load(self.path, preprocess=Preprocess.from_json(self.preprocess), size=self.size, output=self.output)
        if found.sha256 != self.sha256:
            raise BadModel(f"{self.path} has changed since the audit began. Begin anew, in another folder.")
        return found


@dataclass(frozen=True)
class Task:
    """What a worker is given.

    Attributes:
        images: id and path of each photograph.
        truth: class of each photograph by id, or empty.
        wanted: sections by name; those that crashed are left out.
    """

    reference: Source
    candidate: Source
    images: list[tuple[str, str]]
    truth: dict[str, int]
    labels: list[str]
    options: Options
    folder: str
    wanted: list[str]

    def save(self, path: Path) -> None:
        """Write it for the worker."""
        write_atomically(path, [json.dumps(asdict(self)).encode()])

    @classmethod
    def read(cls, path: Path) -> Task:
        """What ``save`` wrote."""
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for side in ("reference", "candidate"):
            fields: dict[str, Any] = record[side]
            size = None if fields["size"] is None else (int(fields["size"][0]), int(fields["size"][1]))
            record[side] = Source(fields["path"], fields["preprocess"], size, fields["output"], fields["sha256"])
        options: dict[str, Any] = record["options"]
        options |= {name: tuple(options[name]) for name in ("maps_by", "severities")}
        record["options"] = Options(**options)
        record["images"] = [(one[0], one[1]) for one in record["images"]]
        return cls(**record)


def result_path(folder: Path, section: str) -> Path:
    """Where a section's outcome lies."""
    return folder / f"{section}.json"


def work(task: Task) -> None:
    """Run the sections that are not done."""
    folder = Path(task.folder)
    left = [one for one in sections() if one.name in task.wanted and not result_path(folder, one.name).is_file()]
    if not left:
        return
    _say(folder, "reading")
    with task.reference.load() as reference, task.candidate.load() as candidate:
        check_pair(reference, candidate)
        context = _context(task, reference, candidate)
        for section in left:
            _say(folder, section.name)
            start = time.monotonic()
            outcome = replace(section.run(context), seconds=time.monotonic() - start)
            for model in (reference, candidate):
                model.close()  # what a section opened takes no memory from the next
            write_atomically(result_path(folder, section.name), [json.dumps(outcome.to_json()).encode()])
    _say(folder, "")


def _context(task: Task, reference: Model, candidate: Model) -> Context:
    inputs = [Input(name, Path(path)) for name, path in task.images]
    truth = np.array([task.truth[one.id] for one in inputs], np.int64) if task.truth else None
    common = reference.preprocess
    pair = (
        Artefact(reference, task.options, inputs, common=common),
        Artefact(candidate, task.options, inputs, task.options.device, common),
    )
    return Context(*pair, truth, task.options, Path(task.folder), task.labels)


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone: whoever begins the audit again starts another."""
    while os.getppid() == parent:
        time.sleep(WATCH)
    os._exit(1)


def _say(folder: Path, section: str) -> None:
    (folder / RUNNING).write_text(section, encoding="utf-8")


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    work(Task.read(Path(sys.argv[1])))
