"""Runs an audit: a process per candidate, begun again without the section in which it died."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from sightline.audit.section import Finding, Outcome, sections
from sightline.audit.worker import RUNNING, Task, result_path
from sightline.errors import SightlineError

Command = Callable[[Path], Sequence[str]]  # of the worker, for a task's file
TASK = "task.json"
POLL = 0.2  # seconds between two looks at a worker
LINES = 3  # of what a dead worker said last


class CannotAudit(SightlineError):
    """A candidate could not be opened at all."""


@dataclass(frozen=True)
class Audited:
    """What was found of one candidate.

    Attributes:
        name: of its file, without the suffix.
        outcomes: by section; those that crashed are missing.
        crashes: sections in which its process died, and how.
        sha256: of the model; "" where it could not be read.
    """

    name: str
    outcomes: Mapping[str, Outcome]
    crashes: Mapping[str, str]
    sha256: str = ""

    @property
    def findings(self) -> list[tuple[str, Finding]]:
        """Every finding with its section, crashes first, then faults, warnings, notes."""
        found = [(name, Finding("fault", f"The process died: {how}")) for name, how in self.crashes.items()]
        found += [(name, one) for name, outcome in self.outcomes.items() for one in outcome.findings]
        order = ("fault", "warning", "note")
        return sorted(found, key=lambda entry: order.index(entry[1].severity))

    @property
    def figures(self) -> dict[str, float | None]:
        """By full name."""
        return {f"{name}.{key}": value for name, one in self.outcomes.items() for key, value in one.figures.items()}

    @property
    def per_class(self) -> dict[str, Mapping[str, float]]:
        """By full name, and class."""
        return {
            f"{name}.{key}": values for name, one in self.outcomes.items() for key, values in one.per_class.items()
        }


def worker_command(task: Path) -> Sequence[str]:
    """This interpreter on the worker."""
    return [sys.executable, "-m", "sightline.audit.worker", str(task)]


def audit_one(
    task: Task,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    command: Command = worker_command,
) -> Audited:
    """All sections of one candidate; what is on disk already is not done again.

    Args:
        task: what the worker is given.
        progress: told the section at work, how many are done and how many there are.
        command: starts the worker.

    Raises:
        CannotAudit: the worker died before its first section, as it does where a file is no network.
        KeyboardInterrupt: the worker was ended; what it finished stays.
    """
    folder = Path(task.folder)
    folder.mkdir(parents=True, exist_ok=True)
    wanted, crashes = list(task.wanted), dict[str, str]()
    while _left(folder, wanted):
        replace(task, wanted=wanted).save(folder / TASK)
        code, said = _attend(command(folder / TASK), folder, wanted, progress)
        if code == 0 or not _left(folder, wanted):  # it may die when it has nothing left to do
            continue
        at = _running(folder)
        if at not in wanted:
            raise CannotAudit(f"{Path(task.candidate.path).name} could not be audited: {_how(code, said)}")
        crashes[at] = _how(code, said)
        wanted.remove(at)
    found = {name: _read(folder, name) for name in task.wanted if result_path(folder, name).is_file()}
    return Audited(folder.name, found, crashes, task.candidate.sha256)


def _left(folder: Path, wanted: Sequence[str]) -> list[str]:
    return [name for name in wanted if not result_path(folder, name).is_file()]


def _read(folder: Path, name: str) -> Outcome:
    return Outcome.from_json(json.loads(result_path(folder, name).read_text(encoding="utf-8")))


def _running(folder: Path) -> str:
    with suppress(OSError):
        return (folder / RUNNING).read_text(encoding="utf-8")
    return ""


def _attend(
    command: Sequence[str], folder: Path, wanted: Sequence[str], progress: Callable[[str, int, int], None] | None
) -> tuple[int, str]:
    """Wait for a worker; its exit code and the end of what it said."""
    errors = folder / "worker.log"
    with errors.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            while process.poll() is None:
                if progress is not None:
                    progress(_running(folder), len(wanted) - len(_left(folder, wanted)), len(wanted))
                time.sleep(POLL)
        except BaseException:
            process.terminate()
            raise
    said = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return process.returncode, " ".join(said[-LINES:] if process.returncode < 0 else said[-1:])


def _how(code: int, said: str) -> str:
    """What became of a process, in words."""
    if code < 0:
        with suppress(ValueError):
            return f"{signal.Signals(-code).name}. {said}".strip()
    return said or f"exit code {code}."


def section_names() -> list[str]:
    """All, in order."""
    return [one.name for one in sections()]
