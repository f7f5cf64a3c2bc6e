"""Peak memory of sweeps above the loaded model, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from networks import SIDE, Network
from recording import Session, append

CHILD = """
import sys
import numpy as np
import sightline
from sightline.types import Batch

def status(field):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field)) * 1024

with sightline.load(sys.argv[1], preset="imagenet") as model:
    images = Batch.of(np.random.default_rng(0).standard_normal((1, 3, {side}, {side}), dtype=np.float32))
    threads = int(sys.argv[3])
    model.plan(sightline.Predict(), threads=threads).run(images)
    before = status("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")  # forget the peak of loading
    model.plan(eval("sightline." + sys.argv[2]), threads=threads).run(images, sightline.top(1))
    print(status("VmHWM") - before)
"""
METHODS = {
    "vgg16": ["Occlusion(window=16, stride=16)", "Occlusion(window=16, stride=4)"],
    "squeezenet": ["Rise(masks=500)", "Rise(masks=4000)", "Occlusion(window=16, stride=4)"],
}


def test_memory(network: Network, session: Session, request: pytest.FixtureRequest) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not tell the peak of a process")
    methods = METHODS.get(request.node.callspec.params["network"])
    if methods is None:
        pytest.skip("the smallest and the largest network are enough")
    for method in methods:
        command = [sys.executable, "-c", CHILD.format(side=SIDE), str(network.model.path), method]
        done = subprocess.run([*command, str(session.threads)], check=True, capture_output=True, text=True)
        peak = int(done.stdout) / 1e9
        print(f"{network.title}, {method}: {peak:.3f} GB above the loaded model")
        append(session.path, [
            session.row(
                benchmark="memory", case=f"{network.title}, {SIDE}x{SIDE}", subject=method, metric="peak memory",
                unit="GB above the loaded model", value=peak, low=peak, high=peak, rounds=1, ratio_to="", ratio=None,
                ratio_low=None, ratio_high=None, others=None,
            )
        ])  # fmt: skip
