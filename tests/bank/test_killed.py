"""Indexing that is killed and taken up again leaves the bank of one that was left alone."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.bank.bank import open_bank
from sightline.demo.dataset import batch

COUNT = 500
KILLS = 4  # per run of the suite; tried with 20


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_sigkill_while_indexing(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, KILLS)


def kill_and_resume(tmp_path: Path, kills: int) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, pixels in enumerate(batch(51, range(COUNT)).images):
        Image.fromarray(pixels).save(photos / f"{number:04d}.png")
    (photos / "broken.png").write_bytes(b"no picture")
    whole = _indexed(photos, tmp_path / "whole")
    assert len(whole) == COUNT
    draw, killed, runs = random.Random(4), 0, 0
    while killed < kills:
        out, tries = tmp_path / f"run{runs}", 0
        while True:
            process = subprocess.Popen(_command(photos, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            started = time.monotonic()
            while process.poll() is None and not out.is_dir() and time.monotonic() - started < 60:
                time.sleep(0.005)
            tries += 1
            time.sleep(draw.uniform(0, 0.3 * tries))  # later and later, so that it ends on a slow machine, too
            process.kill()
            ended = process.wait()
            if ended in (0, 4):  # 4: one picture was set aside
                break
            assert ended == -signal.SIGKILL
            killed += 1
        found = _indexed(photos, out)
        assert found.ids == whole.ids
        assert found.verify() == []
        for space in whole.spaces:
            rows = [np.concatenate(list(bank.blocks(space))) for bank in (whole, found)]
            assert rows[0].tobytes() == rows[1].tobytes()
        runs += 1


def _command(photos: Path, out: Path) -> list[str]:
    flags = ["--layer", "stage2.relu,stage3.relu", "--threads", "1", "--resume"]
    return [sys.executable, "-m", "sightline", "index", "demo", str(photos), "-o", str(out), *flags]


def _indexed(photos: Path, out: Path):  # type: ignore[no-untyped-def]
    done = subprocess.run(_command(photos, out), capture_output=True, text=True, check=False)
    assert done.returncode in (0, 4), done.stderr
    return open_bank(out)
