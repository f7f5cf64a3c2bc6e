"""A whole job by two Ray actors beside two processes and beside one, start-up included, images per second.

Each uses all cores of the machine, whatever ``--threads`` says; workers share them.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs_at_scale import pack

from sightline.job.reader import open_job

IMAGES, WORKERS = 5_000, 2
ASKED = {
    "sightline": ("--on", "ray", "--workers", str(WORKERS)),
    f"{WORKERS} processes": ("--workers", str(WORKERS)),
    "one process": (),
}


@pytest.mark.parametrize("method", ["saliency", "occlusion"])
def test_workers(method: str, race: Any, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    archives = tmp_path / "archives"
    archives.mkdir()
    pack(archives, IMAGES, 77)
    number = itertools.count()

    def run(subject: str) -> Path:
        out = tmp_path / f"out{next(number)}"
        words = ("run", method, "demo", str(archives), "-o", str(out), "--batch", "8", "--dtype", "float16")
        command = [sys.executable, "-m", "sightline", *words, *ASKED[subject]]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return out

    actors, processes, alone = (open_job(run(subject)) for subject in ASKED)
    assert actors.table()["id"] == processes.table()["id"] == alone.table()["id"]
    assert np.array_equal(actors.values(), processes.values())
    # threads of a pass differ from one process, so the last bits do
    np.testing.assert_allclose(actors.values().astype(np.float32), alone.values(), rtol=2e-2, atol=1e-2)
    ours, *others = (partial(run, subject) for subject in ASKED)
    race(
        ours, dict(zip(list(ASKED)[1:], others, strict=True)), metric="throughput", unit="images/s", work=IMAGES,
        case=f"{method} of {IMAGES:,} scenes in tar shards by {WORKERS} Ray actors, demo network",
    )  # fmt: skip
