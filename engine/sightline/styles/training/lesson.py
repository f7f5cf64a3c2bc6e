"""What is learnt and how: the parameters of a training, and what it notes on the way."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path

from sightline.errors import OutputConflict, UsageError
from sightline.job.files import write_atomically
from sightline.job.lock import LOCK_NAME
from sightline.styles.training.pictures import SMALLEST

NOTES, LOSSES, CURVES, CHECKPOINT = "training.json", "losses.csv", "losses.png", "checkpoint.pt"


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """The parameters of a training.

    Attributes:
        width, blocks: of the network.
        crop: side of the training pictures in pixels.
        batch: of them per step.
        steps: in all.
        rate: of Adam, falling along a cosine to a twentieth.
        style_side: pixels of the style's shorter side: larger gives larger strokes.
        style_weight, content_weight, total_variation: of the losses.
        style_layers, content_layers: of the network that judges; as in ``StyleTransfer`` when none are given.
        seed: of weights and crops.
    """

    width: int = 16
    blocks: int = 5
    crop: int = 192
    batch: int = 4
    steps: int = 2000
    rate: float = 2e-3
    style_side: int = 384
    style_weight: float = 10.0
    content_weight: float = 0.5
    total_variation: float = 0.05
    style_layers: tuple[str, ...] = ()
    content_layers: tuple[str, ...] = ()
    seed: int = 0

    def check(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            UsageError: with what is accepted.
        """
        counts = (self.width, self.blocks, self.batch, self.steps, self.style_side)
        weights = (self.style_weight, self.content_weight, self.total_variation)
        if min(counts) < 1 or self.seed < 0 or self.crop < SMALLEST or self.crop % 4:
            raise UsageError(
                f"width={self.width}, blocks={self.blocks}, batch={self.batch}, steps={self.steps} and "
                f"style_side={self.style_side} must be at least 1, seed={self.seed} at least 0, and crop={self.crop} "
                f"a multiple of 4 from {SMALLEST} on."
            )
        if not 0 < self.rate < math.inf or not all(0 <= weight < math.inf for weight in weights):
            raise UsageError(
                f"rate={self.rate} must be above 0, style_weight={self.style_weight}, "
                f"content_weight={self.content_weight} and total_variation={self.total_variation} at least 0, finite."
            )

    def rate_at(self, step: int) -> float:
        """Of a step counted from 0."""
        return self.rate * (0.05 + 0.95 * (1 + math.cos(math.pi * step / self.steps)) / 2)


@dataclass(frozen=True)
class Losses:
    """Means over the batch of one step.

    Attributes:
        style, content, variation: of all rows.
        by_style: style and content loss of the rows of each style, by name; of several styles those that had any.
    """

    style: float
    content: float
    variation: float
    by_style: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])


def begin(folder: Path, lesson: Lesson, facts: dict[str, str], *, resume: bool) -> None:
    """Note what is trained; a folder that holds another training is refused, and the same one without ``resume``.

    A training that ended before its first checkpoint has nothing to lose and is replaced.

    Args:
        folder: there is one, locked by the caller.
        lesson: its parameters.
        facts: what it learns from, by name.
        resume: go on with what is there.

    Raises:
        OutputConflict: with what differs.
    """
    notes = json.loads(json.dumps({**asdict(lesson), **facts}))
    path = folder / NOTES
    if path.is_file() and (folder / CHECKPOINT).is_file():
        there = json.loads(path.read_text(encoding="utf-8"))
        different = [
            f"{name} was {there.get(name)!r}, not {value!r}"
            for name, value in notes.items()
            if there.get(name) != value
        ]
        if different:
            raise OutputConflict(f"{folder} holds another training: {'; '.join(different)}. Choose a new folder.")
        if not resume:
            raise OutputConflict(f"{folder} holds this training already. Give --resume to go on, or a new folder.")
    elif not path.is_file() and any(one.name != LOCK_NAME for one in folder.iterdir()):
        raise OutputConflict(f"{folder} is not empty and holds no training. Choose a folder that is new or empty.")
    write_atomically(path, [json.dumps(notes, indent=1).encode()])


def write_losses(folder: Path, losses: Sequence[Losses], names: Sequence[str]) -> None:
    """The table and the curves, replaced; of several styles with columns and a curve for each."""
    several = names if len(names) > 1 else ()
    titles = ["step", "style", "content", "variation"]
    titles += [f"{loss} {name}" for name in several for loss in ("style", "content")]
    lines = [",".join(titles)]
    for step, one in enumerate(losses):
        values = [f"{value:.9g}" for value in (one.style, one.content, one.variation)]
        for name in several:
            values += [f"{value:.9g}" for value in one.by_style[name]] if name in one.by_style else ["", ""]
        lines.append(",".join([str(step), *values]))
    write_atomically(folder / LOSSES, ["\n".join(lines).encode() + b"\n"])
    write_atomically(folder / CURVES, [_curves(losses, several)])


def _curves(losses: Sequence[Losses], names: Sequence[str]) -> bytes:
    """A PNG of the losses over the steps, on a logarithmic scale."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name in names:
        rows = [(step, one.by_style[name][0]) for step, one in enumerate(losses) if name in one.by_style]
        places, values = zip(*rows, strict=True) if rows else ((), ())
        axes.plot(places, [max(value, 1e-9) for value in values], label=f"style loss of {name}", linewidth=0.8)
    for name in ("content",) if names else ("style", "content"):
        axes.plot([max(getattr(one, name), 1e-9) for one in losses], label=f"{name} loss", linewidth=0.8)
    axes.set(yscale="log", xlabel="step", ylabel="share that is missed")
    axes.legend()
    stream = BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    return stream.getvalue()
