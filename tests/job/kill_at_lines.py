"""Runs the fake job in forked processes that kill themselves at given executed lines of ``sightline.job``.

kill_at_lines.py FOLDER SEED KILLS prints, as JSON, what differed from an undisturbed run after resuming.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from pathlib import Path

import pyarrow.parquet  # noqa: F401 - so that no fork imports it

import sightline.job
from job.fake_job import HEADER, contents, explain, load, make_inputs
from sightline.job.reader import open_job
from sightline.job.run import run_job

FOLDER = str(Path(sightline.job.__file__).parent)
INPUTS = make_inputs(19, {4: "bad", 9: "nan"})


def work(out: Path, kill_at: int | None) -> int:
    """Lines that all threads executed; does not return if that is more than ``kill_at``."""
    lines = 0
    counting = threading.Lock()

    def count(frame: object, event: str, _: object) -> object:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(FOLDER):  # type: ignore[attr-defined]
            return None
        if event == "line":
            with counting:
                lines += 1
                if lines == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
        return count

    threading.settrace(count)  # shards are committed in a thread of their own
    sys.settrace(count)
    run_job(out, HEADER, INPUTS, load, explain, resume=True)
    sys.settrace(None)
    threading.settrace(None)
    return lines


def in_fork(out: Path, kill_at: int | None) -> tuple[int, int]:
    """How the process ended (a signal is negative), and the lines it executed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(work(out, kill_at)).encode())
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return os.waitstatus_to_exitcode(status), int(pipe.read() or 0)


def main(folder: Path, seed: int, kills: int) -> None:
    ended, lines = in_fork(folder / "undisturbed", None)
    assert ended == 0
    expected = contents(folder / "undisturbed")
    faults: list[str] = []
    killed = 0
    for kill_at in random.Random(seed).sample(range(1, lines), kills):
        out = folder / str(kill_at)
        killed += in_fork(out, kill_at)[0] == -signal.SIGKILL
        ended, _ = in_fork(out, None)
        job = open_job(out)
        aside = [one.id for one in job.set_aside]
        if ended != 0 or contents(out) != expected or job.verify() or aside != ["0004bad.png", "0009nan.png"]:
            faults.append(f"line {kill_at}: ended {ended}, {job.verify()}")
    print(json.dumps({"lines": lines, "killed": killed, "faults": faults}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
