"""The folder: what is refused, what is cleaned up, what survives a full disk."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from job.fake_job import HEADER, contents, explain, load, make_inputs
from sightline.errors import DamagedOutput, OutputConflict, UsageError
from sightline.job.exporting import export_parquet, export_zarr
from sightline.job.files import CannotWrite
from sightline.job.inputs import Inputs
from sightline.job.lock import OutputBusy, locked
from sightline.job.manifest import stored_header
from sightline.job.output import open_output
from sightline.job.reader import Job, open_job
from sightline.job.recipe import Explainer
from sightline.job.run import run_job


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"model_sha256": "c3" * 32, "model": "other.onnx"},
            r"model: there net\.onnx \(a1a1.*asked for other\.onnx \(c3c3",
        ),
        ({"method": "Fake(strength=3.0)"}, r"method: there Fake\(strength=2\.0\), asked for Fake\(strength=3\.0\)"),
        ({"target": "logit(3)"}, r"target: there top\(1\), asked for logit\(3\)"),
        ({"preprocess_sha256": "d4" * 32}, "preprocessing: there b2b2b2b2b2b2, asked for d4d4d4d4d4d4"),
        ({"dtype": "float16"}, "dtype: there float32, asked for float16"),
        ({"shard_size": 8}, "shard_size: there 7, asked for 8"),
        ({"kind": "index"}, "kind: there run, asked for index"),
    ],
)
@pytest.mark.parametrize("resume", [True, False])
def test_another_job_is_refused(tmp_path: Path, fields: dict[str, object], said: str, resume: bool):
    run_job(tmp_path / "out", HEADER, make_inputs(9), load, explain)
    before = snapshot(tmp_path)
    with pytest.raises(OutputConflict, match=said) as refused:
        run_job(tmp_path / "out", replace(HEADER, **fields), make_inputs(9), load, explain, resume=resume)
    assert str(refused.value).count("there") == 1, "only what differs is named"
    assert "-o" in str(refused.value)
    assert snapshot(tmp_path) == before


def test_other_inputs_are_refused(tmp_path: Path):
    run_job(tmp_path / "out", HEADER, make_inputs(9), load, explain)
    with pytest.raises(OutputConflict, match=r"inputs: there 9 inputs \(ids .*asked for 10 inputs"):
        run_job(tmp_path / "out", HEADER, make_inputs(10), load, explain, resume=True)
    with pytest.raises(OutputConflict, match=r"inputs: there 9 inputs .*asked for 9 inputs"):
        run_job(tmp_path / "out", HEADER, Inputs(make_inputs(9).entries[::-1]), load, explain, resume=True)


def test_the_model_may_move_and_the_plan_may_change(tmp_path: Path):
    run_job(tmp_path / "out", HEADER, make_inputs(9), load, explain)
    (tmp_path / "out/shards/000001.npy").unlink()
    moved = replace(HEADER, model="renamed.onnx", plan="cuda", batch=5)
    assert run_job(tmp_path / "out", moved, make_inputs(9), load, explain, resume=True).done == 2
    assert stored_header(tmp_path / "out") == HEADER
    assert '"line": "resumed", "sightline": ' in (tmp_path / "out/manifest.jsonl").read_text()
    assert '"plan": "cuda", "batch": 5' in (tmp_path / "out/manifest.jsonl").read_text()


def test_the_same_job_needs_resume(tmp_path: Path):
    run_job(tmp_path / "out", HEADER, make_inputs(9), load, explain)
    before = snapshot(tmp_path)
    with pytest.raises(OutputConflict, match=r"finished.*--resume"):
        run_job(tmp_path / "out", HEADER, make_inputs(9), load, explain)
    assert snapshot(tmp_path) == before


def test_resume_begins_where_there_is_nothing(tmp_path: Path):
    assert stored_header(tmp_path / "new/deep") is None
    assert run_job(tmp_path / "new/deep", HEADER, make_inputs(3), load, explain, resume=True).done == 3
    (tmp_path / "empty").mkdir()
    assert run_job(tmp_path / "empty", HEADER, make_inputs(3), load, explain).done == 3


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("name", ["thesis.tex", "shards/000000.npy", ".hidden"])
def test_a_folder_of_somebody_else_is_refused_untouched(tmp_path: Path, name: str, resume: bool):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"years of work")
    with pytest.raises(OutputConflict, match="not empty and holds no job"):
        run_job(tmp_path / "out", HEADER, make_inputs(3), load, explain, resume=resume)
    assert snapshot(tmp_path / "out") == {name: b"years of work"}


def test_a_file_in_the_place_of_the_folder(tmp_path: Path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputConflict, match="is a file"):
        run_job(tmp_path / "out", HEADER, make_inputs(3), load, explain)
    with pytest.raises(UsageError, match="holds no job"):
        open_job(tmp_path / "out")


def test_orphans_are_removed_and_nothing_else(tmp_path: Path):
    out = tmp_path / "out"
    run_job(out, HEADER, make_inputs(9), load, explain)
    expected = contents(out)
    for orphan in ("000000.npy.partial", "000002.npy", "000002.parquet", "123456789.npy"):
        (out / "shards" / orphan).write_bytes(b"half")
    (out / "manifest.jsonl.partial").write_bytes(b"half")
    mine = ["shards/notes.txt", "shards/backup.npy", "report.html"]
    for name in mine:
        (out / name).write_text("mine")
    run_job(out, HEADER, make_inputs(9), load, explain, resume=True)
    assert set(snapshot(out)) == {"manifest.jsonl", *mine, *(f"shards/{name}" for name in expected)}


def test_a_torn_last_line_is_dropped(tmp_path: Path):
    out = tmp_path / "out"
    run_job(out, HEADER, make_inputs(30, {15: "bad"}), load, explain)
    expected, whole = contents(out), (out / "manifest.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    assert [b'"line": "set_aside"' in line for line in lines] == [False, False, False, True, False, False, False]
    first = len(lines[0])
    for length in {first, first + 1, len(whole) - 1, *range(first, len(whole), 97)}:
        (out / "manifest.jsonl").write_bytes(whole[:length])
        committed = sum(
            line.endswith(b"\n") and b'"line": "shard"' in line for line in whole[:length].splitlines(True)
        )
        job = open_job(out)
        assert len(job.shards) == committed
        assert job.verify() == []
        run_job(out, HEADER, make_inputs(30, {15: "bad"}), load, explain, resume=True)
        assert contents(out) == expected
        assert [one.position for one in open_job(out).set_aside] == [15]
        assert open_job(out).verify() == []


def test_any_flipped_bit_in_a_complete_line_is_damage(tmp_path: Path):
    out = tmp_path / "out"
    run_job(out, HEADER, make_inputs(9, {1: "bad"}), load, explain)
    whole = (out / "manifest.jsonl").read_bytes()
    for place in range(0, len(whole) - 1, 11):
        if whole[place : place + 1] == b"\n":
            continue
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 7)
        (out / "manifest.jsonl").write_bytes(damaged)
        with pytest.raises(DamagedOutput, match=r"(first line|Line [234]) of .*manifest\.jsonl is damaged"):
            open_job(out)
        with pytest.raises(DamagedOutput):
            run_job(out, HEADER, make_inputs(9, {1: "bad"}), load, explain, resume=True)
        assert (out / "manifest.jsonl").read_bytes() == damaged


def test_a_later_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sightline.job.manifest.FORMAT", 2)
    run_job(tmp_path / "out", HEADER, make_inputs(3), load, explain)
    monkeypatch.undo()
    with pytest.raises(OutputConflict, match=r"format 2.*Upgrade"):
        open_job(tmp_path / "out")


def test_an_empty_manifest_is_damage(tmp_path: Path):
    run_job(tmp_path / "out", HEADER, make_inputs(3), load, explain)
    (tmp_path / "out/manifest.jsonl").write_bytes(b"")
    with pytest.raises(DamagedOutput, match="is empty"):
        run_job(tmp_path / "out", HEADER, make_inputs(3), load, explain, resume=True)


def test_a_second_writer_is_refused_with_the_first_named(tmp_path: Path):
    with (
        open_output(tmp_path / "out", HEADER, make_inputs(3)),
        pytest.raises(OutputBusy, match=f"process {os.getpid()} on {socket.gethostname()}"),
    ):
        run_job(tmp_path / "out", HEADER, make_inputs(3), load, explain, resume=True)
    assert run_job(tmp_path / "out", HEADER, make_inputs(3), load, explain, resume=True).done == 3
    assert not (tmp_path / "out/.lock").exists()


HOLDER = """
import sys, pathlib
from sightline.job.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_of_a_dead_writer_is_taken_over(tmp_path: Path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(OutputBusy, match=f"process {holder.pid} on {socket.gethostname()}"), locked(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    assert (tmp_path / ".lock").exists(), "a killed writer cannot clean up"
    with locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()


def test_a_recycled_pid_does_not_keep_a_lock_alive(tmp_path: Path):
    (tmp_path / ".lock").write_text(f'{{"pid": {os.getpid()}, "host": "{socket.gethostname()}"}}')
    with locked(tmp_path):
        pass


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system writes up to ``size`` bytes of a file and then refuses, in the middle of a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [100, 1107, 2000, 4000])
def test_a_full_disk_at_several_places(tmp_path: Path, room: int):
    out, inputs = tmp_path / "out", make_inputs(100)
    with (
        files_of_at_most(room),
        pytest.raises(CannotWrite, match=r"could not be written: File too large \(.* MB free\)"),
    ):
        run_job(out, HEADER, inputs, load, explain)
    left = [path.name for path in out.rglob("*") if path.name.endswith(".partial")]
    assert left == []
    if (out / "manifest.jsonl").exists():
        assert (out / "manifest.jsonl").read_bytes().endswith(b"\n"), "a failed append is cut off again"
        assert open_job(out).verify() == []
    run_job(out, HEADER, inputs, load, explain, resume=True)
    run_job(tmp_path / "whole", HEADER, inputs, load, explain)
    assert contents(out) == contents(tmp_path / "whole")


def test_a_disk_too_full_for_pictures_beside_the_rows(tmp_path: Path):
    """A row takes less than the 9,000 bytes that are allowed, its overlay more."""
    out, inputs = tmp_path / "out", make_inputs(7)
    explainer = Explainer(cast(Any, SimpleNamespace(labels=())), cast(Any, None), None, out, overlays=True)
    with files_of_at_most(9_000), pytest.raises(CannotWrite, match=r"overlays/.*The 0 shards .* are safe"):
        run_job(out, HEADER, inputs, load, lambda batch: explainer.drawn(explain(batch)))
    assert not list((out / "overlays").iterdir())
    run_job(out, HEADER, inputs, load, lambda batch: explainer.drawn(explain(batch)), resume=True)
    assert len(list((out / "overlays").iterdir())) == 7


@pytest.mark.parametrize("export", [export_parquet, export_zarr])
def test_a_disk_too_full_for_an_export(tmp_path: Path, export: Callable[[Sequence[Job], Path], int]):
    if export is export_zarr:
        pytest.importorskip("zarr", reason="zarr is not installed: pip install 'sightline[zarr]'")
    run_job(tmp_path / "out", HEADER, make_inputs(96), load, explain)
    (tmp_path / "to").mkdir()
    with files_of_at_most(600), pytest.raises(CannotWrite, match="could not be written"):
        export([open_job(tmp_path / "out")], tmp_path / "to" / "rows")
    assert not list((tmp_path / "to").iterdir())
    assert export([open_job(tmp_path / "out")], tmp_path / "to" / "rows") == 96


@pytest.mark.parametrize("call", range(1, 13))
def test_no_space_at_any_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int):
    out, inputs, real, calls = tmp_path / "out", make_inputs(20), os.fsync, 0
    out.mkdir()

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotWrite, match="No space left on device") as refused:
        run_job(out, HEADER, inputs, load, explain)
    monkeypatch.undo()
    shards = len(open_job(out).shards) if (out / "manifest.jsonl").exists() else 0
    if shards:
        assert f"The {shards} shards ({7 * shards} rows) written before are safe" in str(refused.value)
        assert "--resume" in str(refused.value)
    run_job(out, HEADER, inputs, load, explain, resume=True)
    run_job(tmp_path / "whole", HEADER, inputs, load, explain)
    assert contents(out) == contents(tmp_path / "whole")
    assert open_job(out).verify() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(CannotWrite, match="Permission denied"):
        run_job(tmp_path / "out", HEADER, make_inputs(3), load, explain)
    tmp_path.chmod(0o700)
