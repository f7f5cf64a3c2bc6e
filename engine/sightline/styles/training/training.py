"""Training a style network on a loss network's features, in pieces that can be interrupted anywhere."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.abilities import Differentiable, Tape
from sightline.ascent.depth import content_layer, style_layers
from sightline.ascent.margins import MARGIN, widened
from sightline.ascent.mosaic import mosaic
from sightline.ascent.regularisers import TotalVariation
from sightline.ascent.stylisation import Goal, Stylisation, features_of, mixed_grams
from sightline.errors import UsageError
from sightline.graph.receptive import ReceptiveField
from sightline.image import encode_png
from sightline.job.files import make_folder, write_atomically
from sightline.job.lock import locked
from sightline.methods.gradient.style_transfer import StyleTransfer
from sightline.model import Model
from sightline.preprocess import Preprocess
from sightline.styles.style import CARD, GRAPH, Card, Learnt, picture_of
from sightline.styles.training.export import export_network
from sightline.styles.training.lesson import CHECKPOINT, Lesson, Losses, begin, write_losses
from sightline.styles.training.network import StyleNetwork
from sightline.styles.training.pictures import Pictures, draw_batch
from sightline.types import ByteArray, FloatArray

VALIDATION = "validation"
SHOWN = 3  # pictures that validation paints
Tell = Callable[[int, int, Losses], bool]  # steps done, of how many, the last losses -> whether to go on


@dataclass(frozen=True, kw_only=True)
class Course:
    """Where a training's pictures come from and where it writes.

    Attributes:
        folder: of the style.
        styles: their pictures by name, (h, w, 3) float32 of 0 to 255, as large as they are to be seen.
        pictures: that are painted meanwhile.
        every: steps between two checkpoints.
        threads: of torch; all cores when None.
        device: "cpu" or "cuda".
    """

    folder: Path
    styles: Mapping[str, FloatArray]
    pictures: Pictures
    every: int = 50
    threads: int | None = None
    device: str = "cpu"

    @property
    def names(self) -> tuple[str, ...]:
        """Of the styles, in order."""
        return tuple(self.styles)


def train(model: Model, lesson: Lesson, course: Course, tell: Tell, *, resume: bool) -> bool:
    """Train until all steps are taken, or until ``tell`` says to stop; returns whether they all are.

    Batches depend on the seed and the step's number, so that an interrupted training that goes on takes the same
    steps as one that was left alone. The rows of all batches, counted through, take the styles in turn.

    Raises:
        OutputConflict: the folder holds another training.
        OutputBusy: another process trains there at this moment.
        UsageError: parameters out of range, or the losses are no numbers any more.
    """
    lesson.check()
    if lesson.steps * lesson.batch < len(course.styles):
        raise UsageError(
            f"steps={lesson.steps} of batch={lesson.batch} paint fewer pictures than there are styles "
            f"({len(course.styles)}), so that some would not be learnt. Give more steps."
        )
    facts = {"style": ", ".join(course.names), "model": f"{model.path.name} ({model.sha256[:12]})"}
    plan = model.plan(StyleTransfer(), device=course.device, threads=course.threads)  # type: ignore[arg-type]
    with cast(Differentiable, model.oracle(plan)).tape() as tape:
        pupil = _Pupil(lesson, tape, model, course.styles)  # what cannot be learnt is told before a folder is made
        make_folder(course.folder)
        with locked(course.folder):
            begin(course.folder, lesson, facts, resume=resume)
            _keep_pictures(course)
            pupil.restore(course.folder / CHECKPOINT)
            going = True
            while going and len(pupil.losses) < lesson.steps:
                going = _step(pupil, course, tell)
            _save(pupil, course)
            if len(pupil.losses) == lesson.steps:
                _finish(pupil, course, facts)
    return len(pupil.losses) == lesson.steps


def _keep_pictures(course: Course) -> None:
    for name, picture in course.styles.items():
        path = picture_of(course.folder, name if len(course.styles) > 1 else None)
        make_folder(path.parent)
        write_atomically(path, [encode_png(picture.astype(np.uint8))])


def _step(pupil: _Pupil, course: Course, tell: Tell) -> bool:
    lesson, step = pupil.lesson, len(pupil.losses)
    batch = draw_batch(course.pictures, count=lesson.batch, crop=lesson.crop, seed=lesson.seed, step=step)
    losses = pupil.learn(batch)
    if not math.isfinite(losses.style + losses.content):
        kept = (course.folder / CHECKPOINT).is_file()
        raise UsageError(
            f"The losses diverged at step {step}: {losses}. "
            f"{'The checkpoint before it is kept' if kept else 'No checkpoint had been written'}; lower the rate "
            f"{lesson.rate}."
        )
    going = tell(step + 1, lesson.steps, losses)
    if (step + 1) % course.every == 0:
        _save(pupil, course)
    return going


def _save(pupil: _Pupil, course: Course) -> None:
    """Checkpoint first, then what can be made from it."""
    write_atomically(course.folder / CHECKPOINT, [pupil.state()])
    if pupil.losses:
        write_losses(course.folder, pupil.losses, course.names)
        make_folder(course.folder / VALIDATION)
        sheet = course.folder / VALIDATION / f"step_{len(pupil.losses):06d}.png"
        write_atomically(sheet, [encode_png(pupil.sheet(course.pictures))])


def _finish(pupil: _Pupil, course: Course, facts: dict[str, str]) -> None:
    several = course.names if len(course.names) > 1 else ()
    turn = math.ceil(len(course.names) / pupil.lesson.batch)  # steps in which every style has a row
    last = pupil.losses[-max(50, turn) :]
    card = Card(
        style=facts["style"], model=facts["model"], steps=len(pupil.losses),
        style_weight=pupil.lesson.style_weight, content_weight=pupil.lesson.content_weight,
        style_loss=float(np.mean([one.style for one in last])),
        content_loss=float(np.mean([one.content for one in last])),
        parity=export_network(pupil.network, course.folder / GRAPH, pupil.lesson.crop, several),
        styles=tuple(_learnt(name, last) for name in several),
    )  # fmt: skip
    write_atomically(course.folder / CARD, [card.to_json().encode()])


def _learnt(name: str, losses: Sequence[Losses]) -> Learnt:
    style, content = zip(*(one.by_style[name] for one in losses if name in one.by_style), strict=True)
    return Learnt(name, float(np.mean(style)), float(np.mean(content)))


class _Pupil:
    """A network while it learns."""

    def __init__(self, lesson: Lesson, tape: Tape, model: Model, styles: Mapping[str, FloatArray]):
        self.lesson, self.losses = lesson, list[Losses]()
        self._tape, self._preprocess, self._names = tape, model.preprocess, tuple(styles)
        self._layers = lesson.style_layers or style_layers(model)
        self._content = lesson.content_layers or (content_layer(model),)
        fields = {layer: model.layers.find(layer).field for layer in (*self._layers, *self._content)}
        self._tiles = mosaic(fields, (lesson.crop, lesson.crop), None, MARGIN)  # as it is applied
        found = [self._gram(picture, fields) for picture in styles.values()]
        self._grams = {layer: torch.cat([one[layer] for one in found]) for layer in self._layers}  # (N, C, C)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(lesson.seed)
            self.network = StyleNetwork(lesson.width, lesson.blocks, len(styles)).to(tape.device)
        self._optimiser = torch.optim.Adam(self.network.parameters(), lr=lesson.rate)
        self._variation = TotalVariation(1.0)

    def _gram(self, picture: FloatArray, fields: Mapping[str, ReceptiveField | None]) -> dict[str, Tensor]:
        """(1, C, C) by layer, of a style (h, w, 3)."""
        style = widened(self._tape.tensor(self._preprocess.normalise(picture[None])))
        tiles = mosaic(fields, (style.shape[-2], style.shape[-1]), None, MARGIN)
        return mixed_grams([features_of(self._tape, style, self._layers, tiles)], [1.0])

    def _worn(self, count: int) -> NDArray[np.int64]:
        """(B,) the style of each row of the next step: all in turn, on from the step before."""
        return (len(self.losses) * count + np.arange(count)) % len(self._names)

    def _shares(self, rows: Tensor | int) -> Tensor | None:
        """(B, N) or (N,) of pure styles; none where there is one only."""
        return None if len(self._names) == 1 else torch.eye(len(self._names), device=self._tape.device)[rows]

    def learn(self, batch: FloatArray) -> Losses:
        """One step on pictures (B, 3, H, W) of 0 to 1."""
        lesson = self.lesson
        pixels = torch.from_numpy(batch).to(self._tape.device)
        worn = self._worn(len(batch))
        rows = torch.from_numpy(worn).to(self._tape.device)
        for group in self._optimiser.param_groups:
            group["lr"] = lesson.rate_at(len(self.losses))
        content = features_of(self._tape, seen(pixels, self._preprocess), self._content, self._tiles)
        weights = dict.fromkeys(self._layers, 1 / len(self._layers))
        goal = Goal(
            content=content, style={layer: one[rows] for layer, one in self._grams.items()}, layer_weights=weights,
            content_weight=lesson.content_weight, style_weight=lesson.style_weight,
        )  # fmt: skip
        objective = Stylisation(self._tape, goal, self._tiles)
        painted = seen(self.network(pixels, self._shares(rows)), self._preprocess)
        variation = self._variation(painted)  # (B,)
        loss = (lesson.total_variation * variation - objective(painted)).mean()
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        style, content, variation = (
            float(part.mean()) for part in (objective.style, objective.content, variation.detach())
        )
        by_style = self._by_style(worn, objective.style, objective.content)
        self.losses.append(Losses(style, content, variation, by_style))
        return self.losses[-1]

    def _by_style(self, worn: NDArray[np.int64], style: Tensor, content: Tensor) -> dict[str, tuple[float, float]]:
        """Means over the rows (B,) of each style."""
        if len(self._names) == 1:
            return {}
        return {
            self._names[place]: (float(style[worn == place].mean()), float(content[worn == place].mean()))
            for place in sorted(set(worn.tolist()))
        }

    def sheet(self, pictures: Pictures) -> ByteArray:
        """The first pictures above what the network makes of them, a row for each style."""
        batch = draw_batch(pictures, count=SHOWN, crop=self.lesson.crop, seed=self.lesson.seed + 1, step=0)
        wide = np.pad(batch, ((0, 0), (0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)), mode="symmetric")
        pixels = torch.from_numpy(wide).to(self._tape.device)
        with torch.no_grad():
            painted = [self.network(pixels, self._shares(style)).cpu().numpy() for style in range(len(self._names))]
        shown = [batch, *(part[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN] for part in painted)]
        rows = [np.concatenate(list(np.moveaxis(part, 1, -1)), axis=1) for part in shown]
        return np.rint(np.concatenate(rows) * 255).clip(0, 255).astype(np.uint8)

    def state(self) -> bytes:
        """All that the next step depends on."""
        file = io.BytesIO()
        torch.save(
            {
                "network": self.network.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "losses": [asdict(one) for one in self.losses],
            },
            file,
        )
        return file.getvalue()

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint, if there is one."""
        if not path.is_file():
            return
        held: dict[str, Any] = torch.load(path, weights_only=True, map_location=self._tape.device)
        self.network.load_state_dict(held["network"])
        self._optimiser.load_state_dict(held["optimiser"])
        self.losses = [Losses(**one) for one in held["losses"]]


def seen(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """Model input (B, C, H, W) of pictures (B, 3, H, W) of 0 to 1, differentiably."""
    if preprocess.channels == "L":
        weights = torch.tensor([0.299, 0.587, 0.114]).to(pixels)
        pixels = (pixels * weights[:, None, None]).sum(dim=1, keepdim=True)
    elif preprocess.channels == "BGR":
        pixels = pixels.flip(1)
    mean, std = (torch.tensor(part).to(pixels)[:, None, None] for part in (preprocess.mean, preprocess.std))
    return (pixels * (255 * preprocess.scale) - mean) / std
