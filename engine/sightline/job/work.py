"""What a worker is given and what it answers; the worker itself. It knows neither processes nor Ray."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sightline.errors import BadImage, SightlineError
from sightline.job.inputs import Input, Load, Loaded
from sightline.job.making import Explain, Item, MadeShard, ShardMaker
from sightline.job.manifest import JobHeader, SetAside
from sightline.job.prefetch import Ahead, decoders
from sightline.job.shard import Shard, stage_shard

DECODERS = 4  # threads, unless the machine has fewer cores


@dataclass(frozen=True)
class Opened:
    """What explains, opened in the process that uses it.

    Attributes:
        load: reads an input.
        explain: explains a batch; see ``ShardMaker``.
        labels: names of the classes.
        name: told the file names of inputs, by id, before these are explained; only where a method writes files.
    """

    load: Load
    explain: Explain
    labels: tuple[str, ...] = ()
    name: Callable[[Mapping[str, str]], None] | None = None


class Recipe(Protocol):
    """How to open what explains, in any process on any machine; it can be pickled."""

    def open(self) -> AbstractContextManager[Opened]:
        """Open it, once per worker."""
        ...


@dataclass(frozen=True)
class Begin:
    """First thing that a worker is told.

    Attributes:
        recipe: what explains.
        header: of the job.
        folder: where finished shards are staged; None sends their rows back.
        token: in the names of staged files, so that no two workers share one.
        cores: that this worker may use.
    """

    recipe: Recipe
    header: JobHeader
    folder: Path | None
    token: str
    cores: int


@dataclass(frozen=True)
class Task:
    """A shard to make, or some of its inputs to try.

    Attributes:
        index: of the shard.
        items: its inputs with their positions.
        skip: positions that are set aside untouched, with the reason.
        revision: see ``write_shard``.
        probe: whether the rows are thrown away: somebody wants to know if the worker survives.
        names: of files, by id.
    """

    index: int
    items: tuple[Item, ...]
    skip: Mapping[int, str] = field(default_factory=dict[int, str])
    revision: int = 0
    probe: bool = False
    names: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Ready:
    """The worker is open."""


@dataclass(frozen=True)
class Advanced:
    """More inputs of the task at work are finished."""

    count: int


@dataclass(frozen=True)
class Staged:
    """A shard lies in the folder under temporary names."""

    shard: Shard
    token: str
    set_aside: tuple[SetAside, ...]


@dataclass(frozen=True)
class Probed:
    """The inputs that were tried did no harm."""


@dataclass(frozen=True)
class Failed:
    """The worker met an error that is no input's fault."""

    kind: str
    message: str
    exit_code: int | None  # of an error of ours; None of any other
    trace: str = ""

    @classmethod
    def of(cls, reason: BaseException) -> Failed:
        """For a message that can be pickled, whatever the exception holds."""
        code = reason.exit_code if isinstance(reason, SightlineError) else None
        return cls(type(reason).__name__, str(reason), code, "".join(traceback.format_exception(reason)))


Answer = Ready | Advanced | Staged | MadeShard | Probed | Failed


class Worker:
    """Makes shards; decoding of the next one begins while the last inputs of this one are explained."""

    def __init__(self, begin: Begin):
        self._begin = begin
        self._stack = ExitStack()
        self._opened = self._stack.enter_context(begin.recipe.open())
        self._maker = ShardMaker(begin.header, self._opened.explain, self._opened.labels)
        threads = min(DECODERS, max(1, begin.cores), os.cpu_count() or 1)
        self._pool = self._stack.enter_context(decoders(threads))
        self._begun: dict[int, Iterator[tuple[Item, Loaded | BadImage]]] = {}  # by the identity of a task

    def close(self) -> None:
        """Release the model and the threads."""
        self._stack.close()

    def prepare(self, task: Task) -> None:
        """Begin to read and decode the first inputs of a task."""
        if id(task) not in self._begun:
            ahead = 2 * self._begin.header.batch
            self._begun[id(task)] = Ahead(self._pool, task.items, lambda item: self._load(task, item), ahead)

    def do(self, task: Task, advanced: Callable[[int], None]) -> Staged | MadeShard | Probed | Failed:
        """Make a shard; errors are an answer too."""
        try:
            self.prepare(task)
            if task.names is not None and self._opened.name is not None:
                self._opened.name(task.names)
            made = self._maker.make(task.index, self._begun.pop(id(task)), len(task.items), advanced)
            if task.probe:
                return Probed()
            return made if self._begin.folder is None else self._staged(made, task.revision, self._begin.folder)
        except Exception as reason:
            return Failed.of(reason)

    def _staged(self, made: MadeShard, revision: int, folder: Path) -> Staged:
        token = self._begin.token
        shard = Shard.empty(made.index, self._begin.header.dtype)
        if len(made.values):
            shard = stage_shard(folder, made.index, made.values, made.table, revision=revision, token=token)
        values = (shard.index, shard.rows, shard.dtype, shard.shape, shard.values, shard.table, made.batch)
        return Staged(Shard(*values), token, tuple(made.set_aside))

    def _load(self, task: Task, item: tuple[int, Input]) -> Loaded:
        position, one = item
        if position in task.skip:
            raise BadImage(task.skip[position])
        return self._opened.load(one)
