"""Do the pixels that a map calls important decide? Measured by hiding and showing them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.types import FloatArray

Probability = Callable[[FloatArray], FloatArray]  # (M, C, H, W) -> (M,) of the class in question
STEPS = 32  # points of a curve beside its start
TOGETHER = 32  # images of one run


@dataclass(frozen=True)
class Curves:
    """What becomes of the probability of a class while pixels are hidden, or shown, the most important first.

    Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models" (2018).

    Attributes:
        deletion: (steps + 1,) probability as pixels become the fill; falls early where the map is right.
        insertion: (steps + 1,) probability as they appear on the fill; rises early where the map is right.
    """

    deletion: FloatArray
    insertion: FloatArray

    @property
    def deletion_area(self) -> float:
        """Area below, 0 to 1: smaller is better."""
        return area(self.deletion)

    @property
    def insertion_area(self) -> float:
        """Area below, 0 to 1: larger is better."""
        return area(self.insertion)


def area(curve: FloatArray) -> float:
    """Below a curve of equal steps over 0 to 1, by trapezia."""
    return float((curve[:-1] + curve[1:]).sum() / 2 / (len(curve) - 1))


def curves(
    probability: Probability, image: FloatArray, map_: FloatArray, fill: FloatArray, steps: int = STEPS
) -> Curves:
    """Of one image (C, H, W) and a map (H, W); of equals the upper left pixel goes first.

    Args:
        probability: of copies of the image.
        image: model input.
        map_: larger is more important.
        fill: what a hidden pixel becomes, (C, H, W).
        steps: equal shares of the pixels.
    """
    order = np.argsort(-map_.ravel(), kind="stable")
    counts = np.linspace(0, order.size, steps + 1).round().astype(np.int64)
    ranks = np.empty(order.size, np.int64)
    ranks[order] = np.arange(order.size)
    gone = (ranks < counts[:, None]).reshape(-1, 1, *map_.shape)  # (steps + 1, 1, H, W)
    found = list[FloatArray]()
    for mask in (gone, ~gone):
        parts = [
            probability(np.where(mask[start : start + TOGETHER], fill, image))
            for start in range(0, len(mask), TOGETHER)
        ]
        found.append(np.concatenate(parts).astype(np.float32))
    return Curves(*found)


def infidelity(score: Probability, image: FloatArray, attribution: FloatArray, changes: FloatArray) -> float:
    """Mean square of what a map says of changes less what they do, scaled as its authors do: smaller is better.

    Yeh, Hsieh, Suggala, Inouye, Ravikumar, "On the (In)fidelity and Sensitivity of Explanations" (2019), with the
    factor that fits the map's scale best.

    Args:
        score: of copies of the image.
        image: (C, H, W).
        attribution: (H, W) or (C, H, W); times a change it says how much the score falls.
        changes: (n, C, H, W) taken from the image.
    """
    said = (changes * attribution).reshape(len(changes), -1).sum(axis=1, dtype=np.float64)
    starts = range(0, len(changes), TOGETHER)
    after = np.concatenate([score(image - changes[start : start + TOGETHER]) for start in starts])
    fell = float(score(image[None])[0]) - after.astype(np.float64)
    return infidelity_of(said, fell)


def falls(score: Probability, image: FloatArray, fill: FloatArray, hidden: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(n,) fall of the score as each part is hidden.

    Args:
        score: of copies of the image.
        image: (C, H, W).
        fill: what hidden pixels become, (C, H, W).
        hidden: (n, H, W) the parts.
    """
    starts = range(0, len(hidden), TOGETHER)
    shown = [score(np.where(hidden[start : start + TOGETHER, None], fill, image)) for start in starts]
    return float(score(image[None])[0]) - np.concatenate(shown).astype(np.float64)


def said_of(map_: FloatArray, hidden: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(n,) what a map (H, W) says of hidden parts (n, H, W): its sum there."""
    return (map_ * hidden).reshape(len(hidden), -1).sum(axis=1, dtype=np.float64)


def correlation(said: NDArray[np.float64], fell: NDArray[np.float64]) -> float:
    """Sensitivity-n: -1 to 1 (best) over the parts; 0 where either side is the same for all parts.

    Ancona, Ceolini, Öztireli, Gross, "Towards better understanding of gradient-based attribution methods" (2018),
    with connected parts in place of scattered pixels, which a network hardly notices.
    """
    said, fell = said - said.mean(), fell - fell.mean()
    lengths = float(np.linalg.norm(said) * np.linalg.norm(fell))
    return float(said @ fell) / lengths if lengths > 0 else 0.0


def infidelity_of(said: NDArray[np.float64], fell: NDArray[np.float64]) -> float:
    """Mean square of what was said less what fell, scaled by the factor that fits best; see ``infidelity``."""
    power = float((said**2).mean())
    factor = float((said * fell).mean()) / power if power > 0 else 1.0
    return float(((factor * said - fell) ** 2).mean())


def sensitivity_n(
    score: Probability, image: FloatArray, map_: FloatArray, fill: FloatArray, hidden: NDArray[np.bool_]
) -> float:
    """Correlation of what a map says of hidden parts with the fall of the score: 1 is best; see ``correlation``."""
    return correlation(said_of(map_, hidden), falls(score, image, fill, hidden))


def squares(height: int, width: int, count: int, seed: int) -> NDArray[np.bool_]:
    """(n, H, W) parts of an image: each one to five squares of an eighth to a third of the shorter side."""
    random = np.random.default_rng(seed)
    parts = np.zeros((count, height, width), np.bool_)
    shorter = min(height, width)
    for part in parts:
        for _ in range(int(random.integers(1, 6))):
            side = int(random.integers(max(1, shorter // 8), max(1, shorter // 3) + 1))
            top, left = (int(random.integers(0, length - side + 1)) for length in (height, width))
            part[top : top + side, left : left + side] = True
    return parts


def max_sensitivity(
    explain: Callable[[FloatArray], FloatArray], image: FloatArray, *, radius: float, count: int, seed: int = 0
) -> float:
    """Largest relative change of a map under noise of at most ``radius`` in every number of the image.

    Yeh et al. (2019), by as many draws from the cube.

    Args:
        explain: maps (B, H, W) of images (B, C, H, W).
        image: (C, H, W).
        radius: in units of the model's input.
        count: draws.
        seed: of them.
    """
    random = np.random.default_rng(seed)
    whole = explain(image[None])[0].astype(np.float64)
    length = max(float(np.linalg.norm(whole)), 1e-30)
    moved = image + random.uniform(-radius, radius, (count, *image.shape)).astype(np.float32)
    maps = explain(moved)
    return max(float(np.linalg.norm(one - whole)) / length for one in maps)
