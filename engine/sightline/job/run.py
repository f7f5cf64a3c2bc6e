"""Drives a job: reads, explains and commits shard by shard, and goes on where it stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sightline.errors import BadImage, UsageError
from sightline.job.inputs import Input, Inputs, Load, Loaded, printable, texts_sha256
from sightline.job.interrupt import StopRequest, stop_on_interrupt
from sightline.job.manifest import JobHeader, SetAside
from sightline.job.output import Output, open_output
from sightline.job.prefetch import prefetch
from sightline.job.rows import Rows
from sightline.types import Batch, Result

Explain = Callable[[Batch], Result]


@dataclass(frozen=True)
class Progress:
    """Where a job stands.

    Attributes:
        done: inputs that have a row or were set aside, those of earlier runs included.
        total: inputs of the job.
        skipped: inputs that were finished before this run.
        set_aside: inputs without a row.
        seconds: since this run began.
        stopping: somebody asked it to stop; it does once the shard is finished.
    """

    done: int
    total: int
    skipped: int
    set_aside: int
    seconds: float
    stopping: bool = False

    @property
    def rate(self) -> float:
        """Inputs per second of this run; 0 before the first."""
        return (self.done - self.skipped) / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At this rate; None before the first input."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


@dataclass(frozen=True)
class JobSummary:
    """What a run of a job did.

    Attributes:
        done: rows written by this run.
        skipped: inputs that were finished before.
        set_aside: every input of the job without a row, those of earlier runs included.
        shards: committed in all.
        mended: shards that were done before and whose files were missing or cut short; done again.
        seconds: wall time.
        stopped: True when an interrupt ended the run before the job was finished; go on with --resume.
        kept: results of the first batches of this run, for a report.
    """

    done: int
    skipped: int
    set_aside: tuple[SetAside, ...]
    shards: int
    mended: tuple[int, ...]
    seconds: float
    stopped: bool
    kept: tuple[Result, ...]


def run_job(
    out: Path,
    header: JobHeader,
    inputs: Inputs,
    load: Load,
    explain: Explain,
    *,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    keep: int = 0,
    labels: Sequence[str] = (),
    decoders: int | None = None,
) -> JobSummary:
    """Write one row for every input, or set it aside with a reason.

    Shards begin at fixed places of the input list and batches never cross them, so a job that was killed and
    resumed has the rows of one that was not, to the last bit. SIGINT once finishes the shard and returns with
    ``stopped``; twice raises KeyboardInterrupt at once. Either way ``resume`` goes on.

    Args:
        out: folder of the job.
        header: what makes the rows what they are.
        inputs: what to explain.
        load: reads one input in a decoder thread; BadImage sets it aside.
        explain: gives one row per photo. It runs before the rows are committed and again if that does not come to
            pass, so what it writes on the side (overlays) must bear being written twice.
        resume: go on where this job stopped; finished inputs are not read again.
        progress: called after every batch, and when a stop is asked for.
        keep: how many rows the kept results have together, at least, if there are as many; whole batches are kept.
        labels: names of the classes, for a column beside ``target_class``.
        decoders: threads that load, 4 at most unless given.

    Raises:
        OutputConflict, OutputBusy, DamagedOutput, CannotWrite: see ``open_output``.
    """
    known = texts_sha256(labels) if labels else ""
    header = replace(header, files_sha256=inputs.files_sha256, labels_sha256=known)
    with open_output(out, header, inputs, resume=resume) as output:
        run = _Run(output, inputs, explain, progress, keep, labels)
        todo = _pending(output, inputs)
        ahead = 2 * output.header.batch  # one batch that waits while the next is decoded
        workers = decoders or min(4, os.cpu_count() or 1)
        with (
            stop_on_interrupt(run.report) as stop,
            closing(prefetch(todo, lambda item: load(item[1]), threads=workers, ahead=ahead)) as loaded,
        ):
            run.stop = stop
            run.go(loaded)
        return run.summary()


def run_once(out: Path, header: JobHeader, explain: Callable[[], Result], *, resume: bool = False) -> JobSummary:
    """The job of a method that looks at the model alone: one shard, whose rows are whatever the method finds.

    Raises:
        UsageError: the header speaks of rows per input.
        OutputConflict, OutputBusy, DamagedOutput, CannotWrite: see ``open_output``.
    """
    if header.rows != "model":
        raise UsageError(f"run_once writes rows of the model, the header says rows={header.rows!r}.")
    start = time.monotonic()
    with open_output(out, header, Inputs(()), resume=resume) as output:
        rows, kept, aside = Rows(output.header), (), []
        if output.pending:
            kept = (explain(),)
            aside = [SetAside(str(row), "", reason, row, 0) for row, reason in rows.add(kept[0], None).items()]
            output.commit(0, *rows.finish(), aside)
        seconds = time.monotonic() - start
        return JobSummary(
            len(rows), 0, tuple(output.set_aside), output.shard_count, output.mended, seconds, False, kept
        )


def _pending(output: Output, inputs: Inputs) -> Iterator[tuple[int, Input]]:
    """Position and input of everything that has no shard yet."""
    for index in output.pending:
        for position in output.positions(index):
            yield position, inputs.entries[position]


class _Run:
    """One run over the pending shards."""

    def __init__(
        self,
        output: Output,
        inputs: Inputs,
        explain: Explain,
        progress: Callable[[Progress], None] | None,
        keep: int,
        labels: Sequence[str],
    ):
        self.output, self.inputs, self.explain, self.labels = output, inputs, explain, labels
        self.progress, self.keep = progress, keep
        self.start = time.monotonic()
        self.skipped = self.seen = output.finished_inputs
        self.written = 0
        self.kept: list[Result] = []
        self.aside: list[SetAside] = []  # of the shard at hand
        self.stop = StopRequest()
        self.reporting = False

    def go(self, loaded: Iterator[tuple[tuple[int, Input], Loaded | BadImage]]) -> None:
        """Finish the pending shards one after the other, until they are done or a stop is asked for."""
        self.report()
        for index in self.output.pending:
            if self.stop.made:
                break
            self._finish_shard(index, loaded)

    def report(self) -> None:
        """Tell how far it is; a signal that arrives during the callback does not call it again."""
        if self.progress is None or self.reporting:
            return
        self.reporting = True
        try:
            aside = len(self.output.set_aside) + len(self.aside)
            seconds = time.monotonic() - self.start
            self.progress(Progress(self.seen, len(self.inputs), self.skipped, aside, seconds, self.stop.made))
        finally:
            self.reporting = False

    def summary(self) -> JobSummary:
        """What was done."""
        return JobSummary(
            done=self.written,
            skipped=self.skipped,
            set_aside=tuple(self.output.set_aside),
            shards=self.output.shard_count,
            mended=self.output.mended,
            seconds=time.monotonic() - self.start,
            stopped=self.seen < len(self.inputs),
            kept=tuple(self.kept),
        )

    def _finish_shard(self, index: int, loaded: Iterator[tuple[tuple[int, Input], Loaded | BadImage]]) -> None:
        rows = Rows(self.output.header, self.labels)
        group: list[tuple[int, Input, Loaded]] = []  # decoded, not explained yet
        for _ in self.output.positions(index):
            (position, one), made = next(loaded)
            if isinstance(made, BadImage):
                self._set_aside(one, position, index, str(made))
                self.seen += 1
            else:
                group.append((position, one, made))
            if len(group) == self.output.header.batch:
                self._explain(group, rows, index)
                group = []
        if group:
            self._explain(group, rows, index)
        aside, self.aside = sorted(self.aside, key=lambda one: one.position), []
        self.output.commit(index, *rows.finish(), aside)
        self.written += len(rows)
        self.report()

    def _explain(self, group: Sequence[tuple[int, Input, Loaded]], rows: Rows, index: int) -> None:
        batch = _batch(group)
        result = self.explain(batch)
        for row, reason in rows.add(result, batch).items():
            position, one, _ = group[row]
            self._set_aside(one, position, index, reason)
        if sum(len(kept.photos) for kept in self.kept) < self.keep:
            self.kept.append(result)
        self.seen += len(group)
        self.report()

    def _set_aside(self, one: Input, position: int, index: int, reason: str) -> None:
        path = "" if one.path is None else printable(one.path)
        self.aside.append(SetAside(one.id, path, reason, position, index))


def _batch(group: Sequence[tuple[int, Input, Loaded]]) -> Batch:
    """(B, C, H, W) of B loaded inputs.

    Raises:
        UsageError: they differ in shape, or do not carry the id of their input.
    """
    first = group[0][2].tensor.shape
    for _, one, loaded in group:
        if loaded.photo.id != one.id:
            raise UsageError(f"Input {one.id!r} was loaded as {loaded.photo.id!r}: a photo keeps its input's id.")
        if loaded.tensor.shape != first:
            raise UsageError(
                f"{one.id} is {loaded.tensor.shape} in model input space, those before are {first}. Images of one "
                "job must be brought to one size: choose one with --size."
            )
    tensor = np.stack([loaded.tensor for _, _, loaded in group])
    return Batch(tensor, tuple(loaded.photo for _, _, loaded in group))
