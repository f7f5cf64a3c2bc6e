"""Drives a job: reads, explains and commits shard by shard, and goes on where it stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from sightline.errors import BadImage, UsageError
from sightline.job.crew import Crew, Engine, is_poison
from sightline.job.inputs import Input, Inputs, Load, Loaded, texts_sha256
from sightline.job.interrupt import StopRequest, stop_on_interrupt
from sightline.job.limits import Limits, Watch
from sightline.job.making import Explain, MadeShard, ShardMaker
from sightline.job.manifest import JobHeader, SetAside
from sightline.job.memory import resident
from sightline.job.output import Output, open_output
from sightline.job.prefetch import prefetch
from sightline.job.rows import Rows
from sightline.job.work import DECODERS
from sightline.types import Result

NO_LIMITS = Limits()


@dataclass(frozen=True)
class Progress:
    """Where a job stands.

    Attributes:
        done: inputs that have a row or were set aside, those of earlier runs included.
        total: inputs of the job.
        skipped: inputs that were finished before this run.
        set_aside: inputs without a row.
        seconds: since this run began.
        stopping: somebody asked it to stop, or a limit was reached; it does once the shard is finished.
        why: what makes it stop.
        interrupted: somebody pressed Ctrl-C; once more stops it at once.
    """

    done: int
    total: int
    skipped: int
    set_aside: int
    seconds: float
    stopping: bool = False
    why: str = ""
    interrupted: bool = False

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
        stopped: True when an interrupt or a limit ended the run before the job was finished; go on with --resume.
        kept: results of the first batches of this run, for a report.
        why: what stopped it.
        restarts: workers that died and were replaced.
        untried: inputs that were to be tried again and were not, since they killed a worker and there is none.
    """

    done: int
    skipped: int
    set_aside: tuple[SetAside, ...]
    shards: int
    mended: tuple[int, ...]
    seconds: float
    stopped: bool
    kept: tuple[Result, ...]
    why: str = ""
    restarts: int = 0
    untried: int = 0


def run_job(
    out: Path,
    header: JobHeader,
    inputs: Inputs,
    load: Load,
    explain: Explain,
    *,
    resume: bool = False,
    retry_failed: bool = False,
    progress: Callable[[Progress], None] | None = None,
    keep: int = 0,
    labels: Sequence[str] = (),
    decoders: int | None = None,
    limits: Limits = NO_LIMITS,
    engine: Engine | None = None,
    names: Callable[[Sequence[str]], Mapping[str, str]] | None = None,
    accepted: Callable[[], None] | None = None,
) -> JobSummary:
    """Go over the inputs and write a row for each, or go on where the same job stopped.

    Args:
        out: folder of the job.
        header: what makes the rows what they are.
        inputs: in the order of their rows.
        load: reads one input; called in several threads. An input for which it raises BadImage is set aside.
        explain: the method's result for a batch of at most ``header.batch`` images.
        resume: go on with the job that is in ``out``.
        retry_failed: go on, and try inputs again that were set aside: the shards of those that can be loaded now, or
            that failed after loading, are made anew. Those that killed a worker are left to workers.
        progress: called after each batch and shard, from the calling thread.
        keep: results of so many images, at least if there are as many, are kept; whole batches.
        labels: names of the classes, for a column beside ``target_class``.
        decoders: threads that load, 4 at most unless given.
        limits: where the run stops by itself.
        engine: workers that load and explain instead of this process; then ``explain`` and ``keep`` are not used.
        names: file names of inputs by id, for workers whose method writes files.
        accepted: called once the folder is known to be this job's, before anything is read.

    Raises:
        OutputConflict, OutputBusy, DamagedOutput, CannotWrite: see ``open_output``.
        OutOfMemory, WorkersDie, WorkerFailed: see there; what was committed is safe.
    """
    known = texts_sha256(labels) if labels else ""
    header = replace(header, files_sha256=inputs.files_sha256, labels_sha256=known)
    with open_output(out, header, inputs, resume=resume or retry_failed, other_files=retry_failed) as output:
        if accepted is not None:
            accepted()
        run = _Run(output, inputs, progress, limits)
        deadly = {one.position: one.reason for one in output.set_aside if is_poison(one.reason)}
        if retry_failed:
            run.untried = len(deadly) if engine is None else 0
            output.redo(_worth_trying(output, inputs, load, workers=engine is not None))
            run.skipped = run.seen = output.finished_inputs
        with stop_on_interrupt(run.report) as run.stop:
            if engine is None:
                run.alone(load, ShardMaker(output.header, explain, labels, run.keeper(keep)), decoders, deadly)
            else:
                run.together(Crew(output, inputs, engine, names))
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


def _worth_trying(output: Output, inputs: Inputs, load: Load, *, workers: bool) -> list[int]:
    """Shards with an input set aside that can be loaded now; one that cannot leaves its shard as it is.

    One that killed a worker is not loaded here: workers, if there are any, may try it.
    """
    found: dict[int, bool] = {}
    for one in output.set_aside:
        if is_poison(one.reason):
            found[one.shard] = found.get(one.shard, False) or workers
        elif not found.get(one.shard):
            try:
                load(inputs.entries[one.position])
                found[one.shard] = True
            except BadImage:
                found[one.shard] = False
    return [index for index, worth in found.items() if worth]


class _Run:
    """One run over the pending shards."""

    def __init__(self, output: Output, inputs: Inputs, progress: Callable[[Progress], None] | None, limits: Limits):
        self.output, self.inputs, self.progress, self.watch = output, inputs, progress, Watch(limits)
        self.skipped = self.seen = output.finished_inputs
        self.written = self.restarts = self.untried = 0
        self.kept: list[Result] = []
        self.stop = StopRequest()
        self.why = ""
        self.reporting = False
        self.maker: ShardMaker | None = None

    def alone(self, load: Load, maker: ShardMaker, decoders: int | None, skip: Mapping[int, str]) -> None:
        """Finish the pending shards one after the other in this process; one is committed while the next is made.

        Args:
            load: reads an input.
            maker: makes a shard.
            decoders: threads that load.
            skip: positions that are set aside untouched, with the reason.
        """
        self.maker = maker

        def read(item: tuple[int, Input]) -> Loaded:
            if item[0] in skip:
                raise BadImage(skip[item[0]])
            return load(item[1])

        ahead = 2 * self.output.header.batch  # one batch that waits while the next is decoded
        workers = decoders or min(DECODERS, os.cpu_count() or 1)
        todo = _pending(self.output, self.inputs)
        loaded = prefetch(todo, read, threads=workers, ahead=ahead)
        longest: float | None = None
        self.report()
        with closing(loaded), ThreadPoolExecutor(1, thread_name_prefix="sightline-commit") as committer:
            committing: Future[None] | None = None
            try:
                for index in list(self.output.pending):
                    if self._stops(longest):
                        break
                    begun = self.watch.seconds
                    with self.output.told_what_is_safe():  # pictures beside the rows take room too
                        made = maker.make(index, loaded, len(self.output.positions(index)), self._advance)
                    if committing is not None:
                        committing.result()
                    committing = committer.submit(self._commit, made)
                    self.report()
                    longest = max(longest or 0.0, self.watch.seconds - begun)
            finally:
                if committing is not None:
                    committing.result()  # what is made is not thrown away, whatever happens to the next
        self.report()

    def together(self, crew: Crew) -> None:
        """Have workers finish the pending shards."""
        self.report()
        if not self.output.pending:
            return
        last = self.watch.seconds
        longest: float | None = None

        def committed(rows: int) -> None:
            nonlocal last, longest
            self.written += rows
            longest = max(longest or 0.0, self.watch.seconds - last)
            last = self.watch.seconds
            self.report()

        def may_begin() -> bool:
            self.why = self.why or self.watch.too_large(crew.held)
            return not self._stops(longest)

        try:
            crew.run(self._advance, committed, may_begin)
        finally:
            self.restarts = crew.restarts
        self.report()

    def keeper(self, keep: int) -> Callable[[Result], None]:
        """Keeps results until they are of ``keep`` images."""

        def kept(result: Result) -> None:
            if sum(len(one.photos) for one in self.kept) < keep:
                self.kept.append(result)

        return kept

    def report(self) -> None:
        """Tell how far it is; a signal that arrives during the callback does not call it again."""
        if self.progress is None or self.reporting:
            return
        self.reporting = True
        try:
            aside = self.output.aside_count + (self.maker.aside_count if self.maker is not None else 0)
            stopping = self.stop.made or bool(self.why)
            self.progress(
                Progress(
                    self.seen,
                    len(self.inputs),
                    self.skipped,
                    aside,
                    self.watch.seconds,
                    stopping,
                    self._reason(),
                    interrupted=self.stop.made,
                )
            )
        finally:
            self.reporting = False

    def summary(self) -> JobSummary:
        """What was done."""
        stopped = self.seen < len(self.inputs)
        return JobSummary(
            done=self.written,
            skipped=self.skipped,
            set_aside=tuple(self.output.set_aside),
            shards=self.output.shard_count,
            mended=self.output.mended,
            seconds=self.watch.seconds,
            stopped=stopped,
            kept=tuple(self.kept),
            why=self._reason() if stopped else "",
            restarts=self.restarts,
            untried=self.untried,
        )

    def _advance(self, count: int) -> None:
        self.seen += count
        if not self.why and self.maker is not None:
            self.why = self.watch.too_large(resident())
        self.report()

    def _commit(self, made: MadeShard) -> None:
        self.output.commit(made.index, made.values, made.table, made.set_aside, made.batch)
        self.written += len(made.values)

    def _stops(self, next_takes: float | None) -> bool:
        self.why = self.why or self.watch.no_time_for(next_takes)
        return self.stop.made or bool(self.why)

    def _reason(self) -> str:
        return self.why or ("an interrupt" if self.stop.made else "")
