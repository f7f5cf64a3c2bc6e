"""Several workers on one job: who does what, what happens when one dies, and which input killed it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from sightline.errors import SightlineError
from sightline.job.files import CannotWrite
from sightline.job.inputs import Inputs
from sightline.job.making import MadeShard
from sightline.job.memory import resident
from sightline.job.output import Output
from sightline.job.work import Advanced, Answer, Failed, Probed, Ready, Staged, Task

DEPTH = 2  # shards that a worker has: one at work, one whose first images are being decoded
MOST_DEATHS = 24  # in a row, without a shard or a probe in between: more than it takes to find one input of any shard
MOST_MISSES = 1  # searches for a deadly input that may find none before the job gives up
MOST_OPENINGS = 3  # deaths in a row of workers that never opened
TICK = 0.5  # seconds between two looks at limits and Ctrl-C
POISON = "The worker that read or explained it died ({how}), alone with it too."


class WorkersDie(SightlineError):
    """Workers die again and again, and no single input is to blame; what was committed is safe."""


class WorkerFailed(SightlineError):
    """A worker met an error that stops the job; the message is the worker's."""

    def __init__(self, failed: Failed):
        ours = failed.exit_code is not None
        super().__init__(
            failed.message if ours else f"A worker failed: {failed.kind}: {failed.message}\n{failed.trace}"
        )
        self.exit_code = failed.exit_code if failed.exit_code is not None else 3


@dataclass(frozen=True)
class Lost:
    """A worker died."""

    how: str


class Hand(Protocol):
    """A worker, seen from the job."""

    def give(self, task: Task) -> None:
        """Hand it a task; it keeps several in order."""
        ...

    def dismiss(self) -> None:
        """Ask it to end after what it does now."""
        ...

    def kill(self) -> None:
        """End it now; nothing happens where it has ended."""
        ...

    @property
    def held(self) -> int:
        """Bytes of this machine's memory that it holds."""
        ...


class Engine(Protocol):
    """Starts workers and listens to them."""

    @property
    def count(self) -> int:
        """How many there should be."""
        ...

    def start(self) -> Hand:
        """One more worker."""
        ...

    def wait(self, hands: Sequence[Hand], seconds: float) -> list[tuple[Hand, Answer | Lost]]:
        """What workers said, at once if there is something, else after at most so long."""
        ...

    def close(self) -> None:
        """Release what it holds beside the workers."""
        ...


@dataclass
class _Post:
    """A worker and what it has to do, the first at work."""

    hand: Hand
    ready: bool = False
    tasks: deque[Task] = field(default_factory=deque[Task])
    advanced: int = 0  # inputs of the task at work


@dataclass
class _Trouble:
    """A shard whose worker died."""

    how: str
    alone: bool = False  # from now on it is made by a worker that has nothing else
    search: Generator[tuple[int, ...], bool, list[int]] | None = None
    misses: int = 0  # searches that found no culprit
    skip: dict[int, str] = field(default_factory=dict[int, str])


class Crew:
    """Makes the pending shards with several workers; one process, this one, commits them.

    A worker that dies is replaced, and the shards that it had are made again, each by a worker that has nothing else.
    If that dies too, the shard's inputs are tried in halves until the one that kills is found; that is set aside, and
    the rest made as if it had been unreadable.

    Args:
        output: of the job.
        inputs: of the job.
        engine: starts workers.
        names: of files, by id, where the method writes some.
    """

    def __init__(
        self,
        output: Output,
        inputs: Inputs,
        engine: Engine,
        names: Callable[[Sequence[str]], Mapping[str, str]] | None = None,
    ):
        self._output, self._inputs, self._engine, self._names = output, inputs, engine, names
        self._again: deque[Task] = deque()  # before anything new
        self._pending = deque(output.pending)
        self._posts: dict[int, _Post] = {}  # by the hand's identity
        self._troubles: dict[int, _Trouble] = {}
        self._deaths = self._openings = 0
        self.restarts = 0

    @property
    def held(self) -> int:
        """Bytes of this machine's memory that this process and its workers hold."""
        return resident() + sum(post.hand.held for post in self._posts.values())

    def run(
        self, advanced: Callable[[int], None], committed: Callable[[int], None], may_begin: Callable[[], bool]
    ) -> None:
        """Work until nothing is pending, or until nothing more may begin and what was begun is done.

        Args:
            advanced: told how many more inputs are finished; fewer than 0 where a worker died and they are not.
            committed: told the rows of every shard that was committed.
            may_begin: asked before a shard is given to a worker.

        Raises:
            WorkersDie: see there.
            WorkerFailed: an error that is no input's fault.
            CannotWrite: the disk is full.
        """
        try:
            while True:
                more = self._feed() if may_begin() else self._dismiss()
                if not more:
                    return
                hands = [post.hand for post in self._posts.values()]
                for hand, answer in self._engine.wait(hands, TICK):
                    self._heard(hand, answer, advanced, committed)
        finally:
            for post in self._posts.values():
                post.hand.kill()
            self._engine.close()
            self._output.remove_orphans()  # what was staged and is nobody's now takes room

    def _feed(self) -> bool:
        """Give workers what they can take; whether there is anything left to wait for."""
        wanted = min(self._engine.count, len(self._output.pending) + len(self._again) + len(self._troubles))
        while len(self._posts) < wanted:
            hand = self._engine.start()
            self._posts[id(hand)] = _Post(hand)
        for depth in range(1, DEPTH + 1):  # everybody gets one before anybody gets two
            for post in self._posts.values():
                shut = any(task.index in self._troubles for task in post.tasks)
                if post.ready and len(post.tasks) < depth and not shut:
                    task = self._next(beside=bool(post.tasks))
                    if task is not None:
                        post.tasks.append(task)
                        post.hand.give(task)
        # A worker that is not ready is waited for only where it has something to do: for some there may be no room.
        return bool(self._again or self._pending) or any(post.tasks for post in self._posts.values())

    def _dismiss(self) -> bool:
        """Let workers finish what they do and go; whether one is still at it."""
        for key, post in list(self._posts.items()):
            post.hand.dismiss()
            post.tasks = deque(list(post.tasks)[:1])
            if not post.tasks:
                post.hand.kill()
                del self._posts[key]
        return bool(self._posts)

    def _next(self, *, beside: bool) -> Task | None:
        """The next task; one that may be deadly goes to a worker that has nothing ``beside`` it."""
        if self._again and not (beside and self._again[0].index in self._troubles):
            return self._again.popleft()
        return self._task(self._pending.popleft()) if self._pending else None

    def _task(self, index: int, skip: Mapping[int, str] | None = None) -> Task:
        items = tuple((position, self._inputs.entries[position]) for position in self._output.positions(index))
        names = None if self._names is None else self._names([one.id for _, one in items])
        return Task(index, items, dict(skip or {}), self._output.revision(index), names=names)

    def _heard(
        self, hand: Hand, answer: Answer | Lost, advanced: Callable[[int], None], committed: Callable[[int], None]
    ) -> None:
        post = self._posts.get(id(hand))
        if post is None:
            return
        match answer:
            case Ready():
                post.ready, self._openings = True, 0
            case Advanced(count):
                if post.tasks and not post.tasks[0].probe:
                    post.advanced += count
                    advanced(count)
            case Staged() | MadeShard():
                task = post.tasks.popleft()
                advanced(len(task.items) - post.advanced)
                post.advanced = self._deaths = 0
                self._commit(answer)
                self._troubles.pop(task.index, None)
                committed(answer.shard.rows if isinstance(answer, Staged) else len(answer.values))
            case Probed():
                task = post.tasks.popleft()
                self._deaths = 0
                self._search_on(task.index, survived=True)
            case Failed():
                raise self._full_disk(answer.message) if answer.kind == "CannotWrite" else WorkerFailed(answer)
            case Lost(how):
                del self._posts[id(hand)]
                advanced(-post.advanced)
                self._lost(post, how)

    def _full_disk(self, message: str) -> CannotWrite:
        return CannotWrite(
            f"{message} The {self._output.shard_count} shards ({self._output.rows} rows) written before are safe: "
            "make room and go on with --resume."
        )

    def _commit(self, answer: Staged | MadeShard) -> None:
        if isinstance(answer, Staged):
            self._output.adopt(answer.shard, answer.token, answer.set_aside)
        else:
            self._output.commit(answer.index, answer.values, answer.table, answer.set_aside, answer.batch)

    def _lost(self, post: _Post, how: str) -> None:
        """Take back what a dead worker had, and blame the first of it."""
        post.hand.kill()
        self.restarts += 1
        self._deaths += 1
        if not post.ready:
            self._openings += 1
        if self._deaths > MOST_DEATHS or self._openings >= MOST_OPENINGS:
            raise WorkersDie(
                f"Workers die again and again, the last of {how}. The {self._output.shard_count} shards "
                f"({self._output.rows} rows) written before are safe. See whether the machine has memory left (fewer "
                "--workers, a smaller --batch) and go on with --resume."
            )
        for task in reversed(post.tasks):
            trouble = self._troubles.setdefault(task.index, _Trouble(how))
            trouble.how = how
            if task.probe:
                self._search_on(task.index, survived=False)
            elif trouble.alone:  # nothing else was in that worker, so it is this shard
                trouble.search = deadly([position for position, _ in task.items if position not in task.skip])
                self._give_probe(task.index, next(trouble.search))
            else:
                trouble.alone = True
                self._again.appendleft(task)

    def _search_on(self, index: int, *, survived: bool) -> None:
        trouble = self._troubles[index]
        assert trouble.search is not None
        try:
            self._give_probe(index, trouble.search.send(survived))
        except StopIteration as ended:
            found: list[int] = ended.value
            trouble.skip |= {position: POISON.format(how=trouble.how) for position in found}
            trouble.misses += not found
            everyone = len(trouble.skip) == len(self._output.positions(index)) > 1
            if trouble.misses > MOST_MISSES or everyone:
                whose = "of every input of its" if everyone else "but of no input alone"
                raise WorkersDie(
                    f"The worker that makes shard {index} dies of {trouble.how} again and again, {whose}. "
                    f"The {self._output.shard_count} shards written before are safe: see what kills it, and "
                    "go on with --resume."
                ) from None
            trouble.search = None
            self._again.appendleft(self._task(index, trouble.skip))

    def _give_probe(self, index: int, positions: tuple[int, ...]) -> None:
        items = tuple((position, self._inputs.entries[position]) for position in positions)
        whole = self._task(index)
        self._again.appendleft(replace(whole, items=items, probe=True))


def is_poison(reason: str) -> bool:
    """Whether an input was set aside because it kills the process that reads or explains it."""
    return reason.startswith(POISON.partition("{")[0])


def deadly(positions: Sequence[int]) -> Generator[tuple[int, ...], bool, list[int]]:
    """Find what kills: yields inputs to try together, is sent whether the worker survived, returns the culprits."""
    found: list[int] = []
    half = len(positions) // 2
    waiting = [part for part in (tuple(positions[half:]), tuple(positions[:half])) if part]
    while waiting:
        part = waiting.pop()
        if (yield part):
            continue
        if len(part) == 1:
            found.append(part[0])
        else:
            half = len(part) // 2
            waiting += [part[half:], part[:half]]
    return found
