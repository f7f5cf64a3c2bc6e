"""Retries, memory that does not suffice, methods that fail, disks that fill, clocks that go back."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from job.fake_job import COUNT, HEADER, FakeRecipe, contents, explain, load, make_inputs, tensor_of, with_workers
from sightline.errors import BadImage, DamagedOutput, UsageError
from sightline.job.files import CannotWrite
from sightline.job.inputs import Input, Loaded
from sightline.job.memory import OutOfMemory, is_out_of_memory, resident
from sightline.job.processes import Processes
from sightline.job.reader import open_job
from sightline.job.run import run_job
from sightline.job.standing import standing
from sightline.job.work import Begin
from sightline.types import Batch, Heatmaps, Photo

INPUTS = make_inputs(COUNT)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("jobs") / "undisturbed"
    run_job(out, HEADER, INPUTS, load, explain)
    return contents(out)


def rows_of(out: Path) -> tuple[list[str], bytes]:
    """Ids and values, whatever the files are called."""
    job = open_job(out)
    assert job.verify() == []
    return job.table().column("id").to_pylist(), job.values().tobytes()


class Flaky:
    """Inputs that cannot be read until they are mended."""

    def __init__(self, broken: set[str]):
        self.broken, self.asked = broken, list[str]()

    def __call__(self, one: Input) -> Loaded:
        self.asked.append(one.id)
        if one.id in self.broken:
            raise BadImage(f"{one.id} is not there at the moment.")
        return load(one)


@pytest.mark.parametrize("workers", [False, True])
def test_retry_failed_gives_the_rows_of_an_undisturbed_run(tmp_path: Path, workers: bool):
    run_job(tmp_path / "whole", HEADER, INPUTS, load, explain)
    flaky = Flaky({"0003.png", "0004.png", "0050.png", "0090.png"})
    out = tmp_path / "out"
    assert len(run_job(out, HEADER, INPUTS, flaky, explain).set_aside) == 4
    flaky.broken = {"0050.png"}
    flaky.asked.clear()
    if workers:
        summary = with_workers(out, INPUTS, FakeRecipe(str(tmp_path)), retry_failed=True)
        assert summary.set_aside == ()
        assert rows_of(out) == rows_of(tmp_path / "whole")
        return
    summary = run_job(out, HEADER, INPUTS, flaky, explain, retry_failed=True)
    assert [one.id for one in summary.set_aside] == ["0050.png"]
    assert len(flaky.asked) == 3 + 14, "one look at each, and the two shards that can be mended"
    flaky.broken = set()
    assert run_job(out, HEADER, INPUTS, flaky, explain, retry_failed=True).set_aside == ()
    assert rows_of(out) == rows_of(tmp_path / "whole")
    names = sorted(path.name for path in (out / "shards").iterdir())
    assert len(names) == 28, "files of earlier revisions are gone"
    assert "000000.r1.npy" in names
    assert run_job(out, HEADER, INPUTS, flaky, explain, resume=True).done == 0


def test_a_retry_that_is_killed_loses_nothing(tmp_path: Path):
    out = tmp_path / "out"
    run_job(out, HEADER, INPUTS, Flaky({"0003.png"}), explain)
    before = rows_of(out)

    def fails(_: Batch) -> Heatmaps:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(out, HEADER, INPUTS, load, fails, retry_failed=True)
    assert rows_of(out) == before


def test_a_mended_file_may_have_another_size(tmp_path: Path):
    from job.test_sources import picture
    from sightline.job.inputs import inputs_from

    folder = tmp_path / "in"
    folder.mkdir()
    for row in range(3):
        (folder / f"000{row}.png").write_bytes(picture(row))
    (folder / "0001.png").write_bytes(b"")

    def read(one: Input) -> Loaded:
        if not one.read():
            raise BadImage(f"{one.id} is empty.")
        return load(one)

    out = tmp_path / "out"
    assert len(run_job(out, HEADER, inputs_from([folder]), read, explain).set_aside) == 1
    (folder / "0001.png").write_bytes(picture(1))
    with pytest.raises(Exception, match="input files"):
        run_job(out, HEADER, inputs_from([folder]), read, explain, resume=True)
    assert run_job(out, HEADER, inputs_from([folder]), read, explain, retry_failed=True).set_aside == ()
    assert run_job(out, HEADER, inputs_from([folder]), read, explain, resume=True).done == 0
    assert len(open_job(out)) == 3


def test_rows_of_files_that_changed_are_made_anew_by_a_retry(tmp_path: Path):
    from sightline.job.inputs import inputs_from

    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for row in range(21):
        (folder / f"{row:04d}.png").write_bytes(bytes(row + 1))
    (folder / "0001.png").write_bytes(b"")

    def read(one: Input) -> Loaded:
        content = one.read()
        if not content:
            raise BadImage(f"{one.id} is empty.")
        return Loaded(np.full((3, 5, 7), len(content), np.float32), Photo(one.id, one.path))

    def interrupted(batch: Batch) -> Heatmaps:
        raise KeyboardInterrupt

    assert len(run_job(out, HEADER, inputs_from([folder]), read, explain).set_aside) == 1
    (folder / "0001.png").write_bytes(bytes(50))
    (folder / "0009.png").write_bytes(bytes(60))
    with pytest.raises(KeyboardInterrupt):
        run_job(out, HEADER, inputs_from([folder]), read, interrupted, retry_failed=True)
    resumed = run_job(out, HEADER, inputs_from([folder]), read, explain, resume=True)
    assert resumed.done == 7, "the shard of the row that was stale, though the retry was killed"
    assert run_job(out, HEADER, inputs_from([folder]), read, explain, retry_failed=True).done == 7, (
        "the one set aside"
    )
    run_job(tmp_path / "whole", HEADER, inputs_from([folder]), read, explain)
    assert rows_of(out) == rows_of(tmp_path / "whole")


def test_an_input_that_killed_a_worker_is_tried_again_by_workers_alone(tmp_path: Path):
    inputs, out, asked = make_inputs(21, {10: "crash", 11: "bad"}), tmp_path / "out", list[str]()
    assert len(with_workers(out, inputs, FakeRecipe(str(tmp_path))).set_aside) == 2

    def mended(one: Input) -> Loaded:
        asked.append(one.id)
        return Loaded(tensor_of(one.id), Photo(one.id, one.path))

    alone = run_job(out, HEADER, inputs, mended, explain, retry_failed=True)
    assert [one.id for one in alone.set_aside] == ["0010crash.png"]
    assert (alone.done, alone.untried) == (6, 1)
    assert run_job(out, HEADER, inputs, mended, explain, retry_failed=True).done == 0
    assert "0010crash.png" not in asked
    begin = Begin(FakeRecipe(str(tmp_path), mended=True), HEADER, out.absolute(), "", 1)
    asked.clear()
    summary = run_job(out, HEADER, inputs, mended, explain, retry_failed=True, engine=Processes(begin, 1))
    assert [one.id for one in summary.set_aside] == ["0011bad.png"]  # this recipe does not load it
    assert (asked, summary.untried) == ([], 0)


class TooLittle:
    """Memory for some images at once, and for what one takes after ``shrink``."""

    def __init__(self, images: int, kind: type[Exception] = MemoryError, shrinks: int = 0):
        self.images, self.kind, self.shrinks = images, kind, shrinks
        self.sizes: list[int] = []

    def __call__(self, batch: Batch) -> Heatmaps:
        self.sizes.append(len(batch))
        if len(batch) > self.images:
            raise self.kind("CUDA out of memory. Tried to allocate 20.00 MiB")
        return explain(batch)

    def shrink(self) -> bool:
        self.shrinks -= 1
        self.images += self.shrinks == 0
        return self.shrinks >= 0


@pytest.mark.parametrize("kind", [MemoryError, RuntimeError, np.exceptions.AxisError, UsageError])
def test_the_batch_halves_and_the_manifest_says_so(tmp_path: Path, expected: dict[str, bytes], kind: type[Exception]):
    little = TooLittle(1, kind)
    out = tmp_path / "out"
    if kind is np.exceptions.AxisError:  # no matter of memory, whatever it says
        with pytest.raises(np.exceptions.AxisError):
            run_job(out, HEADER, INPUTS, load, little)
        return
    run_job(out, HEADER, INPUTS, load, little)
    assert little.sizes[:2] == [3, 1]
    assert set(little.sizes[1:]) == {1}
    assert contents(out) == expected, "rows of this method do not depend on each other"
    job = open_job(out)
    assert {shard.batch for shard in job.shards.values()} == {1}
    assert standing(job).smaller_batches == 14


def test_one_image_that_does_not_fit(tmp_path: Path, expected: dict[str, bytes]):
    with pytest.raises(OutOfMemory, match="One image alone"):
        run_job(tmp_path / "out", HEADER, INPUTS, load, TooLittle(0))
    run_job(tmp_path / "shrunk", HEADER, INPUTS, load, TooLittle(0, shrinks=3))
    assert contents(tmp_path / "shrunk") == expected


def test_out_of_memory_is_recognised():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(ValueError("out of memory"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert resident() > 1 << 20
    assert resident(1 << 30) == 0


def test_inputs_that_the_method_fails_on_are_found_and_set_aside(tmp_path: Path):
    def picky(batch: Batch) -> Heatmaps:
        for photo in batch.photos:
            if "odd" in photo.id:
                raise ZeroDivisionError("no contrast")
        return explain(batch)

    marked = {4: "odd", 30: "odd", 31: "odd", 95: "odd"}  # 95 is alone in the last batch but one
    run_job(tmp_path / "one", HEADER, make_inputs(COUNT, marked), load, picky)
    job = open_job(tmp_path / "one")
    assert [one.position for one in job.set_aside] == sorted(marked)
    assert job.set_aside[0].reason == "The method fails on it: ZeroDivisionError: no contrast"
    assert job.verify() == []
    with pytest.raises(ZeroDivisionError):
        run_job(tmp_path / "all", HEADER, make_inputs(9, dict.fromkeys(range(9), "odd")), load, picky)
    calls = 0

    def lost(batch: Batch) -> Heatmaps:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise RuntimeError("the device is lost")
        return explain(batch)

    with pytest.raises(RuntimeError, match="device is lost"):
        run_job(tmp_path / "lost", replace(HEADER, batch=1), INPUTS, load, lost)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_loses_nothing(tmp_path: Path, expected: dict[str, bytes], workers: int):
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("this machine allows no mount")
    try:
        out = small / "out"

        def go() -> Any:
            if workers:
                return with_workers(out, INPUTS, FakeRecipe(str(tmp_path)), workers, resume=True)
            return run_job(out, HEADER, INPUTS, load, explain, resume=True)

        with pytest.raises(CannotWrite, match="are safe"):
            go()
        assert 0 < len(open_job(out).shards) < 14
        assert open_job(out).verify() == []
        subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
        go()
        assert contents(out) == expected
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_flipped_bit_is_found_and_mended(tmp_path: Path, expected: dict[str, bytes]):
    out = tmp_path / "out"
    run_job(out, HEADER, INPUTS, load, explain)
    path = out / "shards/000003.npy"
    content = bytearray(path.read_bytes())
    content[200] ^= 16
    path.write_bytes(content)
    (fault,) = open_job(out).verify()
    assert "000003.npy" in fault
    path.unlink()
    run_job(out, HEADER, INPUTS, load, explain, resume=True)
    assert contents(out) == expected
    (out / "shards/000005.parquet").write_bytes((out / "shards/000005.parquet").read_bytes()[:-9])
    with pytest.raises(DamagedOutput):
        open_job(out).table()
    run_job(out, HEADER, INPUTS, load, explain, resume=True)
    assert contents(out) == expected


def test_a_clock_that_is_set_back_changes_nothing(
    tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    now, calls = time.time(), 0

    def backwards() -> float:
        nonlocal calls
        calls += 1
        return now - 3600 * calls

    monkeypatch.setattr(time, "time", backwards)
    out = tmp_path / "out"
    seen: list[float] = []
    run_job(out, HEADER, INPUTS, load, explain, progress=lambda progress: seen.append(progress.seconds))
    assert contents(out) == expected
    assert seen == sorted(seen)
    found = standing(open_job(out))
    assert found.rate[0] is not None
    assert found.rate[0] > 0
