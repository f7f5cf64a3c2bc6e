"""A writer that is killed and resumed leaves what an undisturbed one leaves."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from job.fake_job import COUNT, HEADER, MARKED, contents, explain, load, make_inputs
from sightline.job.reader import open_job
from sightline.job.run import run_job

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])}


@pytest.mark.parametrize("seed", [20261])
def test_sigkill_at_random_moments(tmp_path: Path, seed: int):
    draw = random.Random(seed)
    inputs = make_inputs(COUNT, MARKED)
    run_job(tmp_path / "undisturbed", HEADER, inputs, load, explain)
    expected = contents(tmp_path / "undisturbed")
    kills = rounds = 0
    while kills < 24:
        out, longest = tmp_path / f"round{rounds}", 0.15
        while True:
            child = subprocess.Popen(
                [sys.executable, str(HERE / "fake_job.py"), str(out), "0.002"],
                stdout=subprocess.PIPE,
                env=ENVIRONMENT,
            )
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(draw.uniform(0, longest))
            longest *= 1.05  # so that a machine that does much else gets there too
            child.send_signal(signal.SIGKILL)
            ended = child.wait()
            child.stdout.close()
            if ended == 0:
                break
            assert ended == -signal.SIGKILL
            kills += 1
        job = open_job(out)
        assert contents(out) == expected
        assert job.verify() == []
        written = job.table().column("id").to_pylist()
        aside = [one.id for one in job.set_aside]
        assert len(written) + len(aside) == COUNT
        assert sorted(written + aside) == sorted(one.id for one in inputs.entries)
        assert aside == [one.id for row, one in enumerate(inputs.entries) if row in MARKED]
        rounds += 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("seed", [7])
def test_sigkill_at_random_lines(tmp_path: Path, seed: int):
    command = [sys.executable, str(HERE / "kill_at_lines.py"), str(tmp_path), str(seed), "36"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["faults"] == []
    assert found["killed"] >= 32, "threads may shift the count of lines by a few, no more"
