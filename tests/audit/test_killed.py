"""An audit that is killed goes on where it was, and says what an undisturbed one says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.demo import model_path
from sightline.demo.dataset import batch

SECTIONS = ("identity", "environment", "parity", "drift", "shortcuts")
DONE_FIRST = "parity"  # the kill comes after this section
PATIENCE = 120.0  # seconds


def command(folder: Path, out: Path) -> list[str]:
    asked = [part for one in SECTIONS for part in ("--section", one)]
    return [
        sys.executable, "-m", "sightline", "audit", str(folder / "reference.onnx"), str(folder / "candidate.onnx"),
        "--images", str(folder / "scenes"), "-o", str(out), "--maps", "4", "--threads", "2", *asked,
    ]  # fmt: skip


def figures(out: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    return {one["name"]: one["figures"] for one in record["candidates"]}


def running(folder: Path) -> list[int]:
    """Processes that speak of a folder."""
    found = list[int]()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if str(folder).encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked for in /proc")
def test_a_killed_audit_repeats_no_section(tmp_path: Path) -> None:
    for name in ("reference", "candidate"):
        shutil.copy(model_path(), tmp_path / f"{name}.onnx")
    (tmp_path / "scenes").mkdir()
    for number, pixels in enumerate(batch(22, range(12)).images):
        Image.fromarray(pixels).save(tmp_path / "scenes" / f"{number}.png")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    first = killed / "candidates" / "candidate" / f"{DONE_FIRST}.json"
    process = subprocess.Popen(command(tmp_path, killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    began = time.monotonic()
    while not first.is_file():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while running(killed):  # its worker ends with it
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.1)
    done = {path: path.stat().st_mtime_ns for path in first.parent.glob("*.json") if path.stem in SECTIONS}
    assert first in done
    assert len(done) < len(SECTIONS)
    again = subprocess.run(command(tmp_path, killed), capture_output=True, text=True)
    assert again.returncode in (0, 1), again.stderr
    assert {path: path.stat().st_mtime_ns for path in done} == done
    subprocess.run(command(tmp_path, whole), capture_output=True)
    ours, theirs = figures(killed), figures(whole)
    measured = {name for name in ours["candidate"] if "seconds" not in name and "peak" not in name}
    assert {name: ours["candidate"][name] for name in measured} == {
        name: theirs["candidate"][name] for name in measured
    }
