"""What methods that paint share: layers, checks, batches, and the losses of what was painted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch

from sightline.abilities import Differentiable, Tape
from sightline.ascent.deployed import model_of
from sightline.ascent.margins import widened
from sightline.ascent.painting import OCTAVE, Painted, Painter, Wanted
from sightline.ascent.paintings import Paintings
from sightline.ascent.pixels import pixel_values
from sightline.errors import UnknownName, UsageError
from sightline.types import Batch, ByteArray, FloatArray, Photo, joined

Optimiser = Literal["lbfgs", "adam"]
MOST_OCTAVES = 12
Paint = Callable[[Painter, range], tuple[FloatArray, Wanted]]  # start (b, C, H, W) and what some rows are to resemble


def check_maps(oracle: Differentiable, layers: Sequence[str]) -> None:
    """Refuse layers that are unknown or have no positions."""
    model = model_of(oracle)
    for layer in layers:
        shape = model.layers.shapes.get(model.readable(layer), ())
        if len(shape) != 4:
            raise UsageError(
                f"Layer {layer!r} of shape {shape[1:]} has no positions. sightline inspect lists layers."
            )


def evened(layers: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    """Weights by layer, sum 1; equal where none are given."""
    given = tuple(weights) or (1.0,) * len(layers)
    if len(given) != len(layers) or min(given) < 0 or not 0 < sum(given) < np.inf:
        raise UsageError(
            f"{len(given)} weights {given} for {len(layers)} ({', '.join(layers)}): one each, at least 0, not all 0."
        )
    return {layer: weight / sum(given) for layer, weight in zip(layers, given, strict=True)}


def painted(
    oracle: Differentiable, images: Batch, method: Any, options: Mapping[str, Any], paint: Paint
) -> Paintings:
    """Batches of images painted side by side, one by one with L-BFGS.

    Args:
        oracle: runs the network.
        images: B.
        method: whose fields ``steps``, ``optimiser``, ``rate``, ``octaves``, ``tile``, ``frames`` and
            ``total_variation`` say how.
        options: the rest of the painter.
        paint: gives start and goal of some rows.
    """
    batch = oracle.batch_size(len(images)) if method.optimiser == "adam" else 1
    with oracle.tape() as tape:
        painter = _painter(oracle, tape, method, options)
        parts = [
            _part(painter, tape, paint, range(start, min(start + batch, len(images))), images.photos)
            for start in range(0, max(len(images), 1), batch)
        ]
    return joined(parts)


def judged(
    oracle: Differentiable, method: Any, options: Mapping[str, Any], paint: Paint, pictures: ByteArray
) -> tuple[FloatArray, FloatArray]:
    """Style and content losses (B,) of pictures (B, H, W, 3), however they were made.

    Args:
        oracle: runs the network.
        method: as ``painted`` takes it.
        options: likewise.
        paint: likewise.
        pictures: of the size that ``paint`` gives its start.
    """
    style, content = np.zeros(len(pictures), np.float32), np.zeros(len(pictures), np.float32)
    with oracle.tape() as tape:
        painter = _painter(oracle, tape, method, options)
        for row, picture in enumerate(pictures):
            start, wanted = paint(painter, range(row, row + 1))
            size = (start.shape[-2], start.shape[-1])
            if picture.shape[:2] != size:
                raise UsageError(f"Picture {row} is {picture.shape[:2]} pixels, and those to compare it with {size}.")
            judge = painter.objective(wanted, size, size[0])
            shown = tape.tensor(painter.preprocess.normalise(picture[None].astype(np.float32)))
            style[row : row + 1], content[row : row + 1] = _losses(judge, shown)
    return style, content


def _painter(oracle: Differentiable, tape: Tape, method: Any, options: Mapping[str, Any]) -> Painter:
    preprocess, table = oracle.preprocess, model_of(oracle).layers
    layers = (*options["style_layers"], *options["content_layers"])
    check_maps(oracle, layers)
    return Painter(
        tape=tape, preprocess=preprocess, fields={layer: table.find(layer).field for layer in layers},
        total_variation=method.total_variation, steps=method.steps, optimiser=method.optimiser,
        rate=method.rate * abs(preprocess.scale) / float(np.abs(preprocess.std).mean()),
        octaves=method.octaves, tile=method.tile, frames=method.frames, **options,
    )  # fmt: skip


def _part(painter: Painter, tape: Tape, paint: Paint, rows: range, photos: tuple[Photo, ...]) -> Paintings:
    ends = min(rows.stop, len(photos))
    start, wanted = paint(painter, range(rows.start, ends))
    begun = tape.tensor(start)
    size = (begun.shape[-2], begun.shape[-1])
    if not len(begun):
        none, losses = np.zeros(0, np.float32), np.zeros((0, painter.steps), np.float32)
        return Paintings(
            np.zeros((0, *size, 3), np.float32), (), none, none, none, losses, losses,
            np.zeros((0, painter.frames, *size, 3), np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64),
        )  # fmt: skip
    done = painter.paint(begun, wanted)
    judge = painter.objective(wanted, size, size[0])
    values = pixel_values(painter.preprocess, done.images)  # (b, H, W, 3)
    before, _ = _losses(judge, begun)
    shown = painter.preprocess.normalise(painter.preprocess.to_pixels(done.images))
    after, content = _losses(judge, tape.tensor(shown))
    steps = painter.steps
    return Paintings(
        values=values, photos=photos[rows.start : ends], style_before=before, style_after=after,
        content_after=content, style_history=_even(done.style, steps), content_history=_even(done.content, steps),
        frames=_filled(done, painter.frames), stopped=done.stopped, diverged=done.diverged,
    )  # fmt: skip


def _losses(judge: Any, pictures: Any) -> tuple[FloatArray, FloatArray]:
    with torch.no_grad():
        judge(widened(pictures))
    return judge.style.cpu().numpy(), judge.content.cpu().numpy()


def _even(history: FloatArray, steps: int) -> FloatArray:
    """(b, steps), the last loss repeated; what is no number becomes the largest that there is."""
    padded = np.pad(history, ((0, 0), (0, steps - history.shape[1])), mode="edge")
    return np.nan_to_num(padded, nan=float(np.finfo(np.float32).max)).astype(np.float32)


def _filled(done: Painted, frames: int) -> ByteArray:
    """(b, frames, H, W, 3), the last one repeated after an early end."""
    missing = frames - done.frames.shape[1]
    widths = ((0, 0), (0, missing), (0, 0), (0, 0), (0, 0))
    return np.pad(done.frames, widths, mode="edge" if done.frames.shape[1] else "constant")


def check_painting(method: Any) -> None:
    """Refuse what no painting can be made with."""
    if not 1 <= method.octaves <= MOST_OCTAVES or method.steps < 1 or min(method.frames, method.seed) < 0:
        raise UsageError(
            f"steps={method.steps} must be at least 1, octaves={method.octaves} lie in 1 to {MOST_OCTAVES}, "
            f"frames={method.frames} and seed={method.seed} be at least 0."
        )
    if method.optimiser not in ("lbfgs", "adam"):
        raise UnknownName("optimiser", method.optimiser, ("lbfgs", "adam"))
    if not 0 < method.rate < np.inf or not 0 <= method.total_variation < np.inf:
        raise UsageError(
            f"rate={method.rate} must be above 0, total_variation={method.total_variation} at least 0, both finite."
        )
    for name in ("side", "tile"):
        value = getattr(method, name)
        if value is not None and value < 1:
            raise UsageError(f"{name}={value} must be at least 1 pixel.")


def passes(method: Any, height: int, width: int) -> int:
    """Network evaluations per image, a backward pass counted as two; L-BFGS looks about twice a step."""
    side = method.side or min(height, width)
    octaves = max(1, min(method.octaves, MOST_OCTAVES))
    area = sum((side / min(height, width) / OCTAVE**octave) ** 2 for octave in range(octaves)) / octaves
    return max(1, round(3 * method.steps * area * (2 if method.optimiser == "lbfgs" else 1)))
