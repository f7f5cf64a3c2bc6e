"""The loop: what it writes, what it sets aside, how it stops."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from job.fake_job import HEADER, contents, explain, load, make_inputs, tensor_of
from sightline.errors import BadImage, DamagedOutput, OutputConflict, SightlineError, UsageError
from sightline.job.inputs import Input, Inputs, Loaded
from sightline.job.prefetch import prefetch
from sightline.job.reader import open_job
from sightline.job.run import Progress, run_job, run_once
from sightline.types import Batch, Heatmaps, Photo


def expected_rows(names: list[str]) -> np.ndarray:
    return np.stack([2 * tensor_of(name).mean(axis=0) for name in names])


def test_layout_is_readable_without_sightline(tmp_path: Path):
    inputs = make_inputs(17)
    summary = run_job(tmp_path / "out", HEADER, inputs, load, explain, labels=["a", "b", "c", "d", "e"])
    assert (summary.done, summary.skipped, summary.shards, summary.set_aside) == (17, 0, 3, ())
    assert not summary.stopped
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*"))
    stems = [f"shards/{index:06d}" for index in range(3)]
    files = [f"{stem}.{kind}" for stem in stems for kind in ("npy", "parquet")]
    assert found == sorted(["manifest.jsonl", "shards", *files])

    values = np.concatenate([np.load(tmp_path / "out" / f"{stem}.npy") for stem in stems])
    names = [f"{row:04d}.png" for row in range(17)]
    assert values.dtype.str == "<f4"
    np.testing.assert_array_equal(values, expected_rows(names))
    assert [np.load(tmp_path / "out" / f"{stem}.npy").shape[0] for stem in stems] == [7, 7, 3]
    table = pq.read_table(tmp_path / "out/shards/000001.parquet").to_pydict()
    assert list(table)[:4] == ["id", "path", "sha256", "target"]
    assert table["id"] == names[7:14]
    assert table["path"] == [f"/photos/{name}" for name in names[7:14]]
    assert table["target"] == ["top(1)"] * 7
    assert table["target_class"] == [row % 5 for row in range(7, 14)]
    assert table["label"] == ["abcde"[row % 5] for row in range(7, 14)]
    np.testing.assert_allclose(
        table["score"], [tensor_of(name).sum(dtype=np.float64) for name in names[7:14]], rtol=1e-4
    )
    assert table["maximum"] == pytest.approx(expected_rows(names[7:14]).max(axis=(1, 2)))


@pytest.mark.parametrize("batch", [1, 2, 7, 50])
def test_batches_never_cross_shards_and_keep_order(tmp_path: Path, batch: int):
    sizes: list[list[str]] = []

    def remember(images: Batch) -> Heatmaps:
        sizes.append([photo.id[:4] for photo in images.photos])
        return explain(images)

    run_job(tmp_path / "out", replace(HEADER, batch=batch), make_inputs(16), load, remember)
    assert [name for group in sizes for name in group] == [f"{row:04d}" for row in range(16)]
    assert all(len(group) <= batch for group in sizes)
    assert all(int(group[0]) // 7 == int(group[-1]) // 7 for group in sizes)
    assert len(sizes) == 2 * -(-7 // batch) + -(-2 // batch)


def test_finished_inputs_are_not_read_again(tmp_path: Path):
    inputs, read = make_inputs(30, {3: "bad"}), []

    def remember(one: Input) -> Loaded:
        read.append(one.id)
        return load(one)

    def fail_late(images: Batch) -> Heatmaps:
        if images.photos[0].id >= "0014":
            raise RuntimeError("out of power")
        return explain(images)

    with pytest.raises(RuntimeError, match="out of power"):
        run_job(tmp_path / "out", HEADER, inputs, load, fail_late)
    seen: list[Progress] = []
    summary = run_job(tmp_path / "out", HEADER, inputs, remember, explain, resume=True, progress=seen.append)
    assert sorted(read) == [one.id for one in inputs.entries[14:]]
    assert (summary.done, summary.skipped, summary.shards) == (16, 14, 5)
    assert [one.id for one in summary.set_aside] == ["0003bad.png"]
    assert (seen[0].done, seen[0].total, seen[0].skipped) == (14, 30, 14)
    assert (seen[-1].done, seen[-1].set_aside) == (30, 1)
    run_job(tmp_path / "whole", HEADER, inputs, load, explain)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    read.clear()
    again = run_job(tmp_path / "out", HEADER, inputs, remember, explain, resume=True)
    assert (again.done, again.skipped, again.stopped, read) == (0, 30, False, [])


def test_resume_uses_the_batch_that_the_job_began_with(tmp_path: Path):
    sizes: list[int] = []

    def fail_late(images: Batch) -> Heatmaps:
        sizes.append(len(images))
        if images.photos[0].id >= "0007":
            raise RuntimeError
        return explain(images)

    with pytest.raises(RuntimeError):
        run_job(tmp_path / "out", replace(HEADER, batch=3), make_inputs(14), load, fail_late)
    sizes.clear()

    def remember(images: Batch) -> Heatmaps:
        sizes.append(len(images))
        return explain(images)

    run_job(tmp_path / "out", replace(HEADER, batch=6), make_inputs(14), load, remember, resume=True)
    assert sizes == [3, 3, 1]


def test_unreadable_and_not_finite_are_set_aside_with_a_reason(tmp_path: Path):
    marked = {2: "bad", 4: "nan", **dict.fromkeys(range(7, 14), "bad"), 20: "nan"}
    summary = run_job(tmp_path / "out", HEADER, make_inputs(21, marked), load, explain)
    job = open_job(tmp_path / "out")
    assert [one.position for one in summary.set_aside] == sorted(marked)
    assert summary.set_aside == job.set_aside
    reasons = {one.position: one.reason for one in job.set_aside}
    assert reasons[2] == "0002bad.png is no image."
    assert "NaN" in reasons[4]
    assert job.set_aside[0].path == "/photos/0002bad.png"
    assert (summary.done, summary.shards, len(job)) == (11, 3, 11)
    left = [row for row in range(21) if row not in marked]
    assert job.table().column("id").to_pylist() == [f"{row:04d}.png" for row in left]
    np.testing.assert_array_equal(job.values(), expected_rows([f"{row:04d}.png" for row in left]))
    assert job.is_finished
    assert job.verify() == []
    assert not (tmp_path / "out/shards/000001.npy").exists(), "a shard without rows has no files"


def test_nan_in_a_column_is_set_aside_and_none_is_not(tmp_path: Path):
    def scores_missing(images: Batch) -> Heatmaps:
        maps = explain(images)
        scores = np.where([photo.id == "0003.png" for photo in images.photos], np.inf, maps.scores)
        return replace(maps, scores=scores.astype(np.float32), classes=(None,) * len(images))

    run_job(tmp_path / "out", HEADER, make_inputs(5), load, scores_missing)
    job = open_job(tmp_path / "out")
    assert [(one.id, "'score'" in one.reason) for one in job.set_aside] == [("0003.png", True)]
    assert job.table().column("target_class").to_pylist() == [None] * 4


def test_float16_rounds_and_sets_aside_what_does_not_fit(tmp_path: Path):
    header = replace(HEADER, dtype="float16")
    run_job(tmp_path / "out", header, make_inputs(9, {1: "huge"}), load, explain)
    job = open_job(tmp_path / "out")
    left = [f"{row:04d}.png" for row in range(9) if row != 1]
    assert job.values().dtype.str == "<f2"
    np.testing.assert_array_equal(job.values(), expected_rows(left).astype(np.float16))
    assert [one.position for one in job.set_aside] == [1]
    assert "--dtype float32" in job.set_aside[0].reason


def test_float16_sets_rows_aside_whose_digits_it_has_no_room_for(tmp_path: Path):
    factors = {
        1: 1e-8,  # nearly everything becomes 0
        2: 5e-5,  # subnormal numbers: digits are lost
        3: 0.0,  # which nothing is lost of
        5: -1e-8,
    }

    def faint(images: Batch) -> Heatmaps:
        maps = explain(images)
        for row, photo in enumerate(images.photos):
            values, position = maps.values[row], int(photo.id[:4])
            values *= factors.get(position, 1.0) / np.abs(values).max()
            values[0, 0] *= 1e-9 if position == 4 else 1  # one number that vanishes beside others is rounding
        return maps

    for dtype, aside in (("float16", [1, 2, 5]), ("float32", [])):
        run_job(tmp_path / dtype, replace(HEADER, dtype=dtype), make_inputs(9), load, faint)
        job = open_job(tmp_path / dtype)
        assert [one.position for one in job.set_aside] == aside
        assert len(job) == 9 - len(aside)
    reason = open_job(tmp_path / "float16").set_aside[0].reason
    assert "too small for float16, which has all its digits from 6.1e-05 on: store float32" in reason


def test_nan_is_kept_where_the_method_says_so(tmp_path: Path):
    run_job(tmp_path / "out", replace(HEADER, finite=False), make_inputs(4, {1: "nan"}), load, explain)
    assert np.isnan(open_job(tmp_path / "out").values()).sum() == 1


def test_columns_that_are_unknown_in_one_shard(tmp_path: Path):
    def classes_later(images: Batch) -> Heatmaps:
        maps = explain(images)
        return maps if images.photos[0].id >= "0007" else replace(maps, classes=(None,) * len(images))

    run_job(tmp_path / "out", HEADER, make_inputs(10), load, classes_later)
    assert open_job(tmp_path / "out").table().column("target_class").to_pylist() == [None] * 7 + [2, 3, 4]


def test_no_inputs(tmp_path: Path):
    summary = run_job(tmp_path / "out", HEADER, make_inputs(0), load, explain)
    job = open_job(tmp_path / "out")
    assert (summary.done, summary.shards, summary.stopped, len(job)) == (0, 0, False, 0)
    assert job.is_finished
    assert job.verify() == []
    assert job.values().shape == (0,)
    assert job.table().column_names == ["id", "path", "sha256", "target"]


def test_every_input_set_aside(tmp_path: Path):
    inputs = make_inputs(3, {0: "bad", 1: "bad", 2: "nan"})
    assert len(run_job(tmp_path / "out", HEADER, inputs, load, explain).set_aside) == 3
    job = open_job(tmp_path / "out")
    assert (len(job), job.is_finished, job.verify(), job.values().shape) == (0, True, [], (0,))


@pytest.mark.parametrize(("keep", "expected"), [(0, 0), (1, 3), (4, 6), (100, 10)])
def test_results_are_kept_for_a_report(tmp_path: Path, keep: int, expected: int):
    summary = run_job(tmp_path / "out", HEADER, make_inputs(10), load, explain, keep=keep)
    assert [photo.id[:4] for result in summary.kept for photo in result.photos] == [
        f"{row:04d}" for row in range(expected)
    ]


def test_model_rows_are_one_shard(tmp_path: Path):
    header = replace(HEADER, rows="model", target="", preprocess_sha256="")
    kernels = explain(
        Batch(np.stack([tensor_of(str(row)) for row in range(4)]), tuple(Photo(f"{row:04d}") for row in range(4)))
    )
    result = replace(kernels, photos=kernels.photos)
    assert run_once(tmp_path / "out", header, lambda: result).done == 4
    job = open_job(tmp_path / "out")
    assert job.is_finished
    assert job.verify() == []
    assert job.table().column("id").to_pylist() == ["0", "1", "2", "3"]
    np.testing.assert_array_equal(job.values(), kernels.values)
    again = run_once(tmp_path / "out", header, lambda: pytest.fail("computed again"), resume=True)
    assert (again.done, again.kept) == (0, ())
    with pytest.raises(UsageError, match="rows='inputs'"):
        run_once(tmp_path / "other", HEADER, lambda: result)


@pytest.fixture
def keyboard():
    """SIGINT as in a terminal, also where the tests run in a shell's background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupting(times: int, at: str):
    def work(images: Batch) -> Heatmaps:
        if images.photos[0].id == at:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return explain(images)

    return work


@pytest.mark.usefixtures("keyboard")
def test_interrupt_once_finishes_the_shard(tmp_path: Path):
    before, seen = signal.getsignal(signal.SIGINT), []
    inputs = make_inputs(30)
    summary = run_job(tmp_path / "out", HEADER, inputs, load, interrupting(1, "0007.png"), progress=seen.append)
    assert signal.getsignal(signal.SIGINT) is before
    assert (summary.stopped, summary.done, summary.shards) == (True, 14, 2)
    told = [one.stopping for one in seen]
    assert told == [one.interrupted for one in seen]
    assert told.index(True) == [one.done for one in seen].index(7) + 2, "told at once: two reports after shard 0"
    assert not open_job(tmp_path / "out").is_finished
    assert not run_job(tmp_path / "out", HEADER, inputs, load, explain, resume=True).stopped
    run_job(tmp_path / "whole", HEADER, inputs, load, explain)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.usefixtures("keyboard")
def test_interrupt_in_the_last_shard_ends_a_finished_job(tmp_path: Path):
    assert not run_job(tmp_path / "out", HEADER, make_inputs(9), load, interrupting(1, "0007.png")).stopped


@pytest.mark.usefixtures("keyboard")
def test_interrupt_twice_stops_now(tmp_path: Path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_job(tmp_path / "out", HEADER, make_inputs(30), load, interrupting(2, "0010.png"))
    assert signal.getsignal(signal.SIGINT) is before
    job = open_job(tmp_path / "out")
    assert (len(job), job.verify()) == (7, [])
    assert run_job(tmp_path / "out", HEADER, make_inputs(30), load, explain, resume=True).done == 23


@pytest.mark.usefixtures("keyboard")
def test_interrupt_during_the_progress_callback(tmp_path: Path):
    depth = deepest = 0

    def watch(at: Progress) -> None:
        nonlocal depth, deepest
        depth += 1
        deepest = max(deepest, depth)
        if at.done == 3:
            signal.raise_signal(signal.SIGINT)
        depth -= 1

    assert run_job(tmp_path / "out", HEADER, make_inputs(30), load, explain, progress=watch).done == 7
    assert deepest == 1


def test_an_ignored_interrupt_stays_ignored(tmp_path: Path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run_job(tmp_path / "out", HEADER, make_inputs(9), load, interrupting(2, "0007.png")).done == 9
    finally:
        signal.signal(signal.SIGINT, before)


def test_runs_outside_the_main_thread(tmp_path: Path):
    done: list[int] = []
    worker = threading.Thread(
        target=lambda: done.append(run_job(tmp_path / "out", HEADER, make_inputs(9), load, explain).done)
    )
    worker.start()
    worker.join()
    assert done == [9]


def test_an_exception_of_the_loader_ends_the_job_and_frees_the_folder(tmp_path: Path):
    def broken(one: Input) -> Loaded:
        raise ZeroDivisionError(one.id)

    with pytest.raises(ZeroDivisionError):
        run_job(tmp_path / "out", HEADER, make_inputs(9), broken, explain)
    assert run_job(tmp_path / "out", HEADER, make_inputs(9), load, explain, resume=True).done == 9


def test_inputs_of_several_sizes_are_refused(tmp_path: Path):
    def uneven(one: Input) -> Loaded:
        loaded = load(one)
        return loaded._replace(tensor=loaded.tensor[:, :4]) if one.id == "0001.png" else loaded

    with pytest.raises(UsageError, match=r"0001\.png.*\(3, 4, 7\).*\(3, 5, 7\).*--size"):
        run_job(tmp_path / "out", HEADER, make_inputs(3), uneven, explain)
    with pytest.raises(UsageError, match="has shape"):
        run_job(tmp_path / "two", replace(HEADER, batch=1), make_inputs(3), uneven, explain)


def test_a_method_that_loses_rows_is_refused(tmp_path: Path):
    def short(images: Batch) -> Heatmaps:
        maps = explain(images)
        return replace(maps, values=maps.values[:-1])

    with pytest.raises(SightlineError, match="2 rows for 3 inputs"):
        run_job(tmp_path / "out", HEADER, make_inputs(3), load, short)


def test_a_photo_keeps_the_id_of_its_input(tmp_path: Path):
    with pytest.raises(UsageError, match=r"'0000\.png' was loaded as 'other'"):
        run_job(tmp_path / "out", HEADER, make_inputs(3), lambda one: load(Input("other")), explain)


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_prefetch_is_ordered_and_bounded(ahead: int):
    started, taken, lock = 0, 0, threading.Lock()

    def make(item: int) -> int:
        nonlocal started
        with lock:
            started += 1
        if item == 3:
            raise BadImage("three")
        return item * item

    for item, made in prefetch(range(20), make, threads=3, ahead=ahead):
        assert str(made) == ("three" if item == 3 else str(item * item))
        assert item == taken
        taken += 1
        with lock:
            assert started <= taken + ahead
    assert taken == started == 20


def test_decoding_overlaps_the_model(tmp_path: Path):
    decoded = {f"{row:04d}.png": threading.Event() for row in range(21)}

    def tell(one: Input) -> Loaded:
        decoded[one.id].set()
        return load(one)

    def wait_for_next(images: Batch) -> Heatmaps:
        following = f"{int(images.photos[-1].id[:4]) + 1:04d}.png"
        if following in decoded:
            assert decoded[following].wait(30), "nobody decodes the next batch while this one is explained"
        return explain(images)

    assert run_job(tmp_path / "out", HEADER, make_inputs(21), tell, wait_for_next).done == 21


def test_progress_figures():
    at = Progress(done=30, total=100, skipped=10, set_aside=1, seconds=4.0)
    assert (at.rate, at.seconds_left) == (5.0, 14.0)
    assert Progress(0, 5, 0, 0, 0.0).seconds_left is None


@pytest.mark.parametrize("fields", [{"dtype": "float64"}, {"batch": 0}, {"shard_size": -1}])
def test_header_refuses_what_cannot_be(fields: dict[str, object]):
    with pytest.raises(UsageError, match=str(next(iter(fields.values())))):
        replace(HEADER, **fields)


def test_ids_are_unique():
    with pytest.raises(UsageError, match=r"'a\.png' occurs more than once"):
        Inputs((Input("a.png"), Input("b.png"), Input("a.png")))


def test_missing_or_short_shards_are_done_again(tmp_path: Path):
    out = tmp_path / "out"
    run_job(out, HEADER, make_inputs(30, {8: "bad"}), load, explain)
    expected = contents(out)
    (out / "shards/000001.npy").write_bytes(expected["000001.npy"][:-5])
    (out / "shards/000003.parquet").unlink()
    with pytest.raises(DamagedOutput, match=r"000001\.npy has \d+ bytes instead of \d+.*--resume"):
        open_job(out).values()
    summary = run_job(out, HEADER, make_inputs(30, {8: "bad"}), load, explain, resume=True)
    assert (summary.mended, summary.done, summary.skipped) == ((1, 3), 13, 16)
    assert [one.position for one in summary.set_aside] == [8]
    assert contents(out) == expected
    assert open_job(out).verify() == []
    assert [one.position for one in open_job(out).set_aside] == [8]


def test_other_labels_are_another_job(tmp_path: Path):
    run_job(tmp_path / "out", HEADER, make_inputs(3), load, explain, labels=["a", "b", "c", "d", "e"])
    with pytest.raises(OutputConflict, match="labels: there"):
        run_job(tmp_path / "out", HEADER, make_inputs(3), load, explain, labels=["a"], resume=True)
    with pytest.raises(OutputConflict, match=r"labels: there [0-9a-f]{12}, asked for none"):
        run_job(tmp_path / "out", HEADER, make_inputs(3), load, explain, resume=True)
