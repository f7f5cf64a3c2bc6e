"""Two actors of Ray on this machine: the same rows, and the same care."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.fake_job import COUNT, HEADER, MARKED, FakeRecipe, contents, explain, load, make_inputs, with_workers
from sightline.job.limits import Limits
from sightline.job.ray import RayEngine, RayUnreachable, told
from sightline.job.reader import open_job
from sightline.job.run import run_job
from sightline.job.work import Begin

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'sightline[ray]'")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One for all of these tests: it takes seconds to start."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = str(Path(__file__).parents[1])
        environment = {"PYTHONPATH": os.pathsep.join([path, *sys.path])}
        ray.init(num_cpus=2, include_dashboard=False, logging_level="error", runtime_env={"env_vars": environment})
        yield
        ray.shutdown()


def test_the_same_bytes_and_finished_inputs_are_not_read_again(tmp_path: Path):
    run_job(tmp_path / "one", HEADER, make_inputs(COUNT, MARKED), load, explain)
    inputs, recipe = make_inputs(COUNT, MARKED), FakeRecipe(str(tmp_path), seconds=0.01)
    first = with_workers(tmp_path / "two", inputs, recipe, on="ray", limits=Limits(seconds=0.1))
    assert first.stopped
    (tmp_path / "loaded.txt").unlink()
    with_workers(tmp_path / "two", inputs, recipe, on="ray", resume=True)
    read = (tmp_path / "loaded.txt").read_text().split()
    assert len(read) == len(set(read)) == COUNT - first.done - len(first.set_aside)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert open_job(tmp_path / "two").verify() == []


def test_an_actor_that_dies_is_replaced(tmp_path: Path):
    """What follows from a death, poison among it, is the crew's and tested with processes, which start sooner."""
    inputs = make_inputs(28, {10: "once"})
    run_job(tmp_path / "one", HEADER, inputs, load, explain)
    summary = with_workers(tmp_path / "two", inputs, FakeRecipe(str(tmp_path)), on="ray")
    assert (summary.restarts, summary.set_aside) == (1, ())
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_actors_for_which_there_is_no_room(tmp_path: Path):
    inputs = make_inputs(28)
    run_job(tmp_path / "one", HEADER, inputs, load, explain)
    with_workers(tmp_path / "two", inputs, FakeRecipe(str(tmp_path)), count=4, on="ray")  # two of them find room
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    with pytest.raises(RayUnreachable, match=r"takes 999 cores and 0 GPUs.*one of 2 cores"):
        RayEngine(Begin(FakeRecipe(str(tmp_path)), HEADER, None, "", 999), 1)


def test_what_ray_says_is_kept_without_ids():
    said = "The actor died unexpectedly.\n\tactor_id: 0a1b\n\tip: 10.0.0.1\nIts process was killed by SIGKILL."
    expected = "RayActorError: The actor died unexpectedly. Its process was killed by SIGKILL"
    assert told(ray.exceptions.RayActorError(None, said)) == expected
