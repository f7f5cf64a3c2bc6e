"""A data set with ground truth, and the small network trained on it: everything can be tried offline."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.demo.shapes import LABELS

if TYPE_CHECKING:
    from sightline.demo.dataset import Scenes

__all__ = ["LABELS", "model_path", "scenes"]


def model_path() -> Path:
    """The trained network, ``shapes.onnx``, which is installed with the package."""
    return Path(str(files("sightline.demo") / "shapes.onnx"))


def scenes(count: int, seed: int = 0) -> Scenes:
    """The first ``count`` scenes of a seed; see `sightline.demo.dataset.Scenes`.

    The network was trained on seed 1 and watched on seed 2; any other seed is unseen.
    """
    from sightline.demo.dataset import batch

    return batch(seed, range(count))
