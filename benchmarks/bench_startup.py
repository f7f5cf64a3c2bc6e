"""Whole processes, from the start to the first result, against the scripts that people write with a peer.

What must hold on a warm disk cache: ``--help`` within 0.6 s, SqueezeNet's first result within 2.5 s, without torch.
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
from networks import SIDE, Network, squeezenet
from PIL import Image
from recording import Session

PEERS = {
    "python, import torch": ("-c", "import torch"),
    "python, import captum.attr": ("-c", "import captum.attr"),
}
OURS = ("-c", "from sightline.cli import main; main()")
# Decoding, normalising and running one photograph, as short as it can be written; no batching, nothing is kept.
READ = """
import sys
import numpy as np
from PIL import Image
model, photo, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
pixels = np.asarray(Image.open(photo).convert('RGB'), np.float32) / 255
image = ((pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).astype(np.float32).transpose(2, 0, 1)[None]
"""
ONNXRUNTIME = f"""{READ}
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'])
print(session.run(None, {{session.get_inputs()[0].name: image}})[0].argmax())
"""
TORCH = f"""{READ}
import torch, torchvision
torch.set_num_threads(threads)
module = torchvision.models.squeezenet1_0(weights=None).eval()
module.load_state_dict(torch.load(model))
with torch.inference_mode():
    print(module(torch.from_numpy(image)).argmax().item())
"""
CAPTUM = f"""{TORCH}
from captum.attr import Occlusion
with torch.no_grad():
    Occlusion(module).attribute(
        torch.from_numpy(image), (3, 32, 32), (3, 16, 16), target=0, perturbations_per_eval=16
    )
"""


@pytest.mark.parametrize("words", [("--help",), ("methods",), ("run", "occlusion", "--help")], ids=" ".join)
def test_startup(race: Any, words: tuple[str, ...]) -> None:
    ours = partial(start, *OURS, *words)
    peers = {name: partial(start, *arguments) for name, arguments in PEERS.items()}
    for run in (ours, *peers.values()):
        run()  # so that no subject reads its files from a cold disk
    race(ours, peers, case=f"sightline {' '.join(words)}", metric="wall time", unit="s")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, session: Session) -> Network:
    return squeezenet(tmp_path_factory.mktemp("startup"), session.threads)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(
    ("words", "scripts"),
    [
        (("predict",), {"onnxruntime, a script": ONNXRUNTIME, "torch, a script": TORCH}),
        (("occlusion", "--window", "32", "--stride", "16"), {"captum, a script, 16 per run": CAPTUM}),
    ],
    ids=["predict", "occlusion"],
)
def test_first_result(
    race: Any, trained: Network, photo: Path, tmp_path: Path, session: Session, words: Any, scripts: Any
) -> None:
    """One photograph, decoded, explained and written, from the start of the process to its end."""
    import torch

    weights = tmp_path / "weights.pt"
    torch.save(trained.module.state_dict(), weights)
    number, threads = itertools.count(), str(session.threads)

    def ours() -> None:
        out = str(tmp_path / f"job{next(number)}")
        flags = ("--preset", "imagenet", "--threads", threads, "--size", str(SIDE), "-o", out)
        start(*OURS, "run", words[0], str(trained.model.path), str(photo), *words[1:], *flags)

    peers = {
        name: partial(
            start, "-c", script, str(trained.model.path if script is ONNXRUNTIME else weights), str(photo), threads
        )
        for name, script in scripts.items()
    }
    for run in (ours, *peers.values()):
        run()
    race(
        ours, peers, case=f"first result of {' '.join(words)}, {trained.title}, {SIDE}x{SIDE}", metric="wall time",
        unit="s",
    )  # fmt: skip


def start(*arguments: str) -> None:
    """Run Python until it ends well."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
