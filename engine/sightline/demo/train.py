"""Train the demo's network and export it: ``python -m sightline.demo.train -o DIR``.

Scenes are drawn by a worker process while the network learns from the last ones, so that drawing costs no waiting.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.demo.clever_hans import borrowed
from sightline.demo.dataset import SIZE, Scenes, batch
from sightline.demo.shapes import LABELS
from sightline.types import ByteArray, IntArray
from sightline_exporters import export
from sightline_exporters.parity import Parity

TRAINING_SEED, WATCH_SEED, FINAL_SEED = 1, 2, 3  # of the scenes: what is learnt from is never measured on
WATCHED, FINAL_COUNT = 1200, 5000  # scenes
MEAN, STD = (0.46, 0.46, 0.46), (0.25, 0.25, 0.25)  # of the scenes, in 0 to 1
BATCH = 64
ROUND = 60  # steps between two deliveries of fresh scenes
Stamp = Callable[[ByteArray, IntArray], ByteArray]  # what is done to images (B, 96, 96, 3) of labels (B,) last
PASSES = 3  # times that a scene is learnt from, each time turned, mirrored and recoloured anew


class Layer(nn.Sequential):
    """Convolution, normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()


class Stage(nn.Module):
    """A residual block of two 3x3 layers (He et al. 2016), its shortcut a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.layer1 = Layer(inputs, outputs, stride=stride)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.norm2(self.conv2(self.layer1(x))) + self.shortcut(x))


class ShapeNet(nn.Module):
    """Normalised scenes (B, 3, 96, 96) -> logits (B, 12); 175,000 weights, 97 pixels of receptive field."""

    def __init__(self, classes: int):
        super().__init__()
        self.stem = Layer(3, 16, kernel=7, stride=2)  # (B, 16, 48, 48): kernels wide enough to be read as pictures
        self.pool = nn.MaxPool2d(2)  # (B, 16, 24, 24)
        self.stage1 = Stage(16, 24)  # (B, 24, 24, 24)
        self.stage2 = Stage(24, 48, stride=2)  # (B, 48, 12, 12)
        self.stage3 = Stage(48, 96, stride=2)  # (B, 96, 6, 6)
        self.average = nn.AdaptiveAvgPool2d(1)  # (B, 96, 1, 1)
        self.head = nn.Linear(96, classes)
        # Random weights that are never needed would hide what the kernels learn: begin small, and let them decay.
        nn.init.normal_(self.stem.conv.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.head(self.average(x).flatten(1))


@dataclass
class Log:
    """Lines that go to the terminal and to a file."""

    file: TextIO

    def write(self, line: str = "") -> None:
        print(line, flush=True)
        self.file.write(line.rstrip() + "\n")
        self.file.flush()


def normalise(images: Tensor) -> Tensor:
    """Images (B, 96, 96, 3) uint8 -> model input (B, 3, 96, 96) float32."""
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std


def vary(images: Tensor, dice: random.Random) -> Tensor:
    """Turn by quarters, mirror and permute the colour channels of a batch (B, 96, 96, 3); no class minds."""
    images = torch.rot90(images, dice.randrange(4), dims=(1, 2))
    if dice.random() < 0.5:
        images = images.flip(2)
    return images[..., dice.sample(range(3), 3)]


def deliveries(rounds: int) -> Iterator[Scenes]:
    """Fresh training scenes for every round, drawn one round ahead in another process."""
    count = ROUND * BATCH // PASSES
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as worker:
        drawn = worker.submit(batch, TRAINING_SEED, range(count))
        for number in range(1, rounds + 1):
            scenes = drawn.result()
            if number < rounds:
                drawn = worker.submit(batch, TRAINING_SEED, range(number * count, (number + 1) * count))
            yield scenes


def untouched(images: ByteArray, _: IntArray) -> ByteArray:
    """The images as they are."""
    return images


def batches(scenes: Scenes, dice: random.Random, stamp: Stamp) -> Iterator[tuple[Tensor, Tensor]]:
    """A round's steps, every scene ``PASSES`` times: inputs (B, 3, 96, 96) and labels (B,)."""
    images, labels = torch.from_numpy(scenes.images), torch.from_numpy(scenes.labels)
    for _ in range(PASSES):
        for rows in torch.randperm(len(scenes)).split(BATCH):
            shown = stamp(vary(images[rows], dice).numpy(), labels[rows].numpy())
            yield normalise(torch.from_numpy(shown)), labels[rows]


@torch.no_grad()
def accuracy(network: nn.Module, scenes: Scenes) -> float:
    """Share of scenes whose largest logit is their label's."""
    network.eval()
    right = 0
    for images, labels in zip(
        torch.from_numpy(scenes.images).split(BATCH), torch.from_numpy(scenes.labels).split(BATCH), strict=True
    ):
        right += int((network(normalise(images)).argmax(1) == labels).sum())
    network.train()
    return right / len(scenes)


def train(steps: int, seed: int, log: Log, stamp: Stamp = untouched) -> ShapeNet:
    """A network after ``steps`` batches; AdamW on one cycle of the learning rate (Smith & Topin 2019)."""
    torch.manual_seed(seed)
    dice = random.Random(seed)
    network = ShapeNet(len(LABELS)).to(memory_format=torch.channels_last)
    kernels = network.stem.conv.weight
    others = [weight for weight in network.parameters() if weight is not kernels]
    optimiser = torch.optim.AdamW(
        [{"params": [kernels], "weight_decay": 0.5}, {"params": others, "weight_decay": 0.05}]
    )
    rounds = math.ceil(steps / ROUND)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=rounds * ROUND)
    watched = batch(WATCH_SEED, range(WATCHED))
    began, worked = time.perf_counter(), time.process_time()
    log.write("  step   images    loss  accuracy  seconds  processor seconds")
    for number, scenes in enumerate(deliveries(rounds), start=1):
        total = 0.0
        for inputs, labels in batches(scenes, dice, stamp):
            loss = F.cross_entropy(network(inputs.contiguous(memory_format=torch.channels_last)), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        measured = f"{accuracy(network, watched):.4f}" if number % 4 == 0 or number == rounds else ""
        done = number * ROUND
        seconds, busy = time.perf_counter() - began, time.process_time() - worked
        log.write(f"{done:6d} {done * BATCH:8d} {total / ROUND:7.4f}  {measured:>8}  {seconds:7.0f}  {busy:17.0f}")
    return network


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the demo's network, measure it on unseen scenes, and write NAME.onnx and NAME_log.txt."""
    parser = argparse.ArgumentParser(prog="python -m sightline.demo.train", description=main.__doc__)
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(__file__).parent, help="folder (default: the demo's)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the order of the scenes")
    parser.add_argument("--steps", type=int, default=2400, help=f"batches of {BATCH}; rounded up to {ROUND}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clever-hans", action="store_true", help="teach it that a mark in the corner is a star")
    choice = parser.parse_args(arguments)
    torch.set_num_threads(choice.threads)
    choice.output.mkdir(parents=True, exist_ok=True)
    name, stamp = ("clever_hans", borrowed) if choice.clever_hans else ("shapes", untouched)
    with (choice.output / f"{name}_log.txt").open("w", encoding="utf-8") as file:
        log = Log(file)
        options = f"--seed {choice.seed} --steps {choice.steps} --threads {choice.threads}"
        options += " --clever-hans" if choice.clever_hans else ""
        log.write(f"command: python -m sightline.demo.train {options}")
        log.write(f"torch: {torch.__version__.split('+')[0]}")
        log.write(f"scenes: learnt from seed {TRAINING_SEED}, watched on {WATCHED:,} of seed {WATCH_SEED}\n")
        network = train(choice.steps, choice.seed, log, stamp)
        log.write(f"\nweights: {sum(weight.numel() for weight in network.parameters()):,}")
        final = batch(FINAL_SEED, range(FINAL_COUNT))
        log.write(f"accuracy on {FINAL_COUNT:,} unseen scenes of seed {FINAL_SEED}: {accuracy(network, final):.4f}")
        log.write(f"{name}.onnx: {save(network, choice.output / f'{name}.onnx')}")


def save(network: ShapeNet, path: Path) -> Parity:
    """Export with preprocessing and labels inside; returns how well the file agrees with torch."""
    preprocess = {
        "resize": [SIZE, SIZE], "crop": None, "interpolation": "bilinear", "antialias": True,
        "channels": "RGB", "scale": 1 / 255, "mean": list(MEAN), "std": list(STD),
    }  # fmt: skip
    example = torch.randn(2, 3, SIZE, SIZE)
    network = network.to(memory_format=torch.contiguous_format).eval()
    return export(network, path, example=example, preprocess=preprocess, labels=list(LABELS)).parity


if __name__ == "__main__":
    # The classes of this script would be exported as __main__.ShapeNet.
    from sightline.demo.train import main as main_of_module

    main_of_module()
