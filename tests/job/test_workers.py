"""Several workers: the same bytes as one process, whatever dies in between."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from job.fake_job import COUNT, HEADER, MARKED, FakeRecipe, contents, explain, load, make_inputs, with_workers
from sightline.errors import UsageError
from sightline.job.crew import Lost, WorkerFailed, WorkersDie, deadly
from sightline.job.limits import Limits
from sightline.job.reader import open_job
from sightline.job.run import Progress, run_job
from sightline.job.work import Answer, Begin, Ready, Task, Worker


class Here:
    """A worker in this process; one without a recipe never gets ready."""

    held = 0

    def __init__(self, recipe: FakeRecipe | None):
        self.worker = None if recipe is None else Worker(Begin(recipe, HEADER, None, "", 1))
        self.answers: list[Answer] = [] if recipe is None else [Ready()]

    def give(self, task: Task) -> None:
        assert self.worker is not None
        self.answers.append(self.worker.do(task, lambda _: None))

    def dismiss(self) -> None:
        pass

    def kill(self) -> None:
        if self.worker is not None:
            self.worker.close()


class OneOfThree:
    """Starts workers of which only the first has room."""

    count = 3

    def __init__(self, recipe: FakeRecipe):
        self.recipes, self.silences = [recipe], 0

    def start(self) -> Here:
        return Here(self.recipes.pop() if self.recipes else None)

    def wait(self, hands: Sequence[Here], seconds: float) -> list[tuple[Here, Answer | Lost]]:
        heard = [(hand, hand.answers.pop(0)) for hand in hands if hand.answers]
        self.silences += not heard
        assert self.silences < 3, "it waits for workers that nobody needs"
        return heard

    def close(self) -> None:
        pass


def undisturbed(folder: Path, marked: dict[int, str]) -> dict[str, bytes]:
    run_job(folder, HEADER, make_inputs(COUNT, marked), load, explain)
    return contents(folder)


def test_the_same_bytes_as_one_process(tmp_path: Path):
    expected = undisturbed(tmp_path / "one", MARKED)
    seen: list[Progress] = []
    summary = with_workers(
        tmp_path / "two", make_inputs(COUNT, MARKED), FakeRecipe(str(tmp_path)), progress=seen.append
    )
    assert contents(tmp_path / "two") == expected
    assert open_job(tmp_path / "two").set_aside == open_job(tmp_path / "one").set_aside
    assert open_job(tmp_path / "two").verify() == []
    assert (summary.done, summary.stopped, summary.restarts) == (COUNT - len(MARKED), False, 0)
    assert (seen[0].done, seen[-1].done) == (0, COUNT)
    assert all(before.done <= after.done for before, after in pairwise(seen))


def test_a_worker_that_dies_is_replaced_and_its_shard_made_again(tmp_path: Path):
    marked = MARKED | {20: "once", 70: "once"}
    names = make_inputs(COUNT, marked)
    expected = undisturbed(tmp_path / "one", marked)
    summary = with_workers(tmp_path / "two", names, FakeRecipe(str(tmp_path)))
    assert contents(tmp_path / "two") == expected
    assert summary.restarts == 2
    assert len(summary.set_aside) == len(MARKED)


@pytest.mark.parametrize("word", ["die", "crash"])
def test_poison_is_isolated_and_set_aside(tmp_path: Path, word: str):
    poisoned = {10: word, 11: word, 40: word}
    expected = undisturbed(tmp_path / "one", dict.fromkeys(poisoned, "bad"))
    summary = with_workers(tmp_path / "two", make_inputs(COUNT, poisoned), FakeRecipe(str(tmp_path)))
    assert [one.position for one in summary.set_aside] == [10, 11, 40]
    how = "SIGKILL" if word == "die" else "SIGSEGV"
    assert all(f"died ({how})" in one.reason for one in summary.set_aside)
    assert contents(tmp_path / "two") == expected
    assert open_job(tmp_path / "two").verify() == []


def test_what_every_input_meets_stops_the_job(tmp_path: Path):
    with pytest.raises(WorkerFailed, match="This recipe is refused") as refused:
        with_workers(tmp_path / "out", make_inputs(9), FakeRecipe(str(tmp_path), refuse=True))
    assert refused.value.exit_code == UsageError.exit_code
    everything = make_inputs(14, dict.fromkeys(range(14), "die"))
    with pytest.raises(WorkersDie, match="again and again"):
        with_workers(tmp_path / "deadly", everything, FakeRecipe(str(tmp_path)), count=1)


def test_workers_that_never_come_are_not_waited_for(tmp_path: Path):
    """Where a cluster has room for one of three."""
    expected = undisturbed(tmp_path / "one", MARKED)
    inputs = make_inputs(COUNT, MARKED)
    run_job(tmp_path / "two", HEADER, inputs, load, explain, engine=OneOfThree(FakeRecipe(str(tmp_path))))
    assert contents(tmp_path / "two") == expected


def test_time_and_memory_limits_stop_cleanly(tmp_path: Path):
    expected = undisturbed(tmp_path / "one", MARKED)
    slow = FakeRecipe(str(tmp_path), seconds=0.02)
    inputs = make_inputs(COUNT, MARKED)
    first = with_workers(tmp_path / "two", inputs, slow, limits=Limits(seconds=0.3))
    assert first.stopped
    assert "time limit" in first.why
    assert 1 <= first.shards < 14
    second = with_workers(tmp_path / "two", inputs, slow, resume=True, limits=Limits(memory=1))
    assert "memory limit" in second.why
    assert not with_workers(tmp_path / "two", inputs, FakeRecipe(str(tmp_path)), resume=True).stopped
    assert contents(tmp_path / "two") == expected


def test_limits_of_one_process(tmp_path: Path):
    def slow(batch: object) -> object:
        time.sleep(0.01)
        return explain(batch)  # type: ignore[arg-type]

    inputs = make_inputs(COUNT)
    runs = 0
    while True:
        summary = run_job(tmp_path / "out", HEADER, inputs, load, slow, resume=True, limits=Limits(memory=1))  # type: ignore[arg-type]
        runs += 1
        if not summary.stopped:
            break
    assert runs == 14, "one shard each"
    summary = run_job(tmp_path / "timed", HEADER, inputs, load, slow, limits=Limits(seconds=0.08))  # type: ignore[arg-type]
    assert summary.stopped
    assert summary.shards >= 1
    with pytest.raises(UsageError, match="above 0"):
        Limits(seconds=0)


def test_ctrl_c_lets_workers_finish_their_shard(tmp_path: Path):
    inputs = make_inputs(COUNT)
    done: list[int] = []

    def interrupt(progress: Progress) -> None:
        done.append(progress.done)
        if progress.done >= 14 and not progress.stopping:
            os.kill(os.getpid(), signal.SIGINT)

    assert threading.current_thread() is threading.main_thread()
    summary = with_workers(tmp_path / "out", inputs, FakeRecipe(str(tmp_path), seconds=0.01), progress=interrupt)
    assert summary.stopped
    assert summary.why == "an interrupt"
    assert summary.shards * 7 == summary.done < COUNT
    with_workers(tmp_path / "out", inputs, FakeRecipe(str(tmp_path)), resume=True)
    assert contents(tmp_path / "out") == undisturbed(tmp_path / "one", {})


def test_finished_inputs_are_not_read_by_workers(tmp_path: Path):
    inputs = make_inputs(COUNT)
    recipe = FakeRecipe(str(tmp_path))
    stopped = with_workers(tmp_path / "out", inputs, replace(recipe, seconds=0.02), limits=Limits(seconds=0.3))
    (tmp_path / "loaded.txt").unlink()
    with_workers(tmp_path / "out", inputs, recipe, resume=True)
    read = (tmp_path / "loaded.txt").read_text().split()
    assert len(read) == len(set(read)) == COUNT - stopped.done


def test_the_search_finds_every_culprit_in_few_tries():
    for culprits in ([], [0], [99], [3, 4, 50]):
        search, tries, found = deadly(range(100)), 1, None
        part = next(search)
        while found is None:
            try:
                part = search.send(not set(culprits) & set(part))
                tries += 1
            except StopIteration as ended:
                found = ended.value
        assert found == culprits
        assert tries <= 2 + 2 * 7 * len(culprits)
