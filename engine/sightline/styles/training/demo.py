"""Train the style in the box: ``python -m sightline.styles.training.demo MODEL [-o DIR] [--resume]``.

The style is ``strokes.draw``, the pictures are ``collage``: nothing of it was ever a photograph or a painting. MODEL
judges; the style in the box was learnt from torchvision's SqueezeNet 1.0.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sightline.model import load
from sightline.preprocess import preset
from sightline.styles.strokes import draw
from sightline.styles.style import OWN
from sightline.styles.training.lesson import Lesson, Losses
from sightline.styles.training.pictures import Collages
from sightline.styles.training.training import Course, train

PICTURES = 4000


def main(arguments: Sequence[str] | None = None) -> None:
    """Train in one piece or, with --resume and --minutes, in several."""
    parser = argparse.ArgumentParser(prog="python -m sightline.styles.training.demo", description=main.__doc__)
    parser.add_argument("model", help="an ImageNet network as ONNX")
    parser.add_argument("-o", "--output", type=Path, default=OWN, help="folder (default: the one in the box)")
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--crop", type=int, default=192)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long; --resume goes on")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    choice = parser.parse_args(arguments)
    began = time.monotonic()

    def tell(done: int, total: int, losses: Losses) -> bool:
        if done % 20 == 0:
            print(f"{done} of {total}: style {losses.style:.4f}, content {losses.content:.3f}", flush=True)
        return time.monotonic() - began < 60 * choice.minutes

    lesson = Lesson(width=16, blocks=4, steps=choice.steps, crop=choice.crop, batch=choice.batch, content_weight=1.5)
    course = Course(
        folder=choice.output, styles={"strokes drawn by sightline": draw().astype(np.float32)},
        pictures=Collages(PICTURES), threads=choice.threads,
    )  # fmt: skip
    with load(choice.model, preprocess=preset("imagenet")) as model:
        finished = train(model, lesson, course, tell, resume=choice.resume)
    print(f"{choice.output}: {'finished' if finished else 'stopped; --resume goes on'}")


if __name__ == "__main__":
    main()
