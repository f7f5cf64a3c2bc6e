"""Peak memory above the loaded model, each subject in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
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
GRADIENTS = """
import sys
import numpy as np
import torch

def status(field):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field)) * 1024

path, subject, threads, side = sys.argv[1], sys.argv[2], int(sys.argv[3]), {side}
images = np.random.default_rng(0).standard_normal((16, 3, side, side), dtype=np.float32)
torch.set_num_threads(threads)
if subject == "sightline":
    import sightline
    from sightline.types import Batch
    plan = sightline.load(path, preset="imagenet").plan(sightline.Saliency(), threads=threads)
    run = lambda count: plan.run(Batch.of(images[:count]), sightline.logit(1))
else:
    import captum.attr
    module = torch.load(path, weights_only=False).to(memory_format=torch.channels_last)
    attribute = captum.attr.Saliency(module).attribute
    def run(count):
        for start in range(0, count, 4):
            leaf = torch.from_numpy(images[start : start + 4]).contiguous(memory_format=torch.channels_last)
            attribute(leaf.requires_grad_(), target=1).abs().amax(1)
run(1)
before = status("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
run(16)
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
        peak = peak_of(CHILD, network.model.path, method, session.threads)
        record(session, f"{network.title}, {SIDE}x{SIDE}", method, peak)


def test_memory_of_gradients(network: Network, session: Session, tmp_path: Path) -> None:
    """Saliency of 16 images; the peer takes four at a time, which is where it is fast."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not tell the peak of a process")
    saved = tmp_path / "module.pt"
    torch.save(network.module, saved)
    for subject, path in {"sightline": network.model.path, "captum, 4 per run": saved}.items():
        peak = peak_of(GRADIENTS, path, subject, session.threads)
        record(session, f"saliency of 16 images, {network.title}, {SIDE}x{SIDE}", subject, peak)


def peak_of(program: str, path: Path, subject: str, threads: int) -> float:
    """GB above what the child held when it was ready."""
    command = [sys.executable, "-c", program.replace("{side}", str(SIDE)), str(path), subject, str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout) / 1e9


def record(session: Session, case: str, subject: str, peak: float) -> None:
    print(f"{case}, {subject}: {peak:.3f} GB above the loaded model")
    append(session.path, [
        session.row(
            benchmark="memory", case=case, subject=subject, metric="peak memory", unit="GB above the loaded model",
            value=peak, low=peak, high=peak, rounds=1, ratio_to="", ratio=None, ratio_low=None, ratio_high=None,
            others=None,
        )
    ])  # fmt: skip
