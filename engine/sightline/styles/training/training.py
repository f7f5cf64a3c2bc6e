"""Training a style network on a loss network's features, in pieces that can be interrupted anywhere."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from sightline.abilities import Differentiable, Tape
from sightline.ascent.depth import content_layer, style_layers
from sightline.ascent.margins import MARGIN, widened
from sightline.ascent.mosaic import mosaic
from sightline.ascent.regularisers import TotalVariation
from sightline.ascent.stylisation import Goal, Stylisation, features_of, mixed_grams
from sightline.errors import UsageError
from sightline.image import encode_png
from sightline.job.files import make_folder, write_atomically
from sightline.methods.gradient.style_transfer import StyleTransfer
from sightline.model import Model
from sightline.preprocess import Preprocess
from sightline.styles.style import CARD, GRAPH, PICTURE, Card
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
        style: what its picture is called.
        picture: (h, w, 3) float32 of 0 to 255, as large as it is to be seen.
        pictures: that are painted meanwhile.
        every: steps between two checkpoints.
        threads: of torch; all cores when None.
        device: "cpu" or "cuda".
    """

    folder: Path
    style: str
    picture: FloatArray
    pictures: Pictures
    every: int = 50
    threads: int | None = None
    device: str = "cpu"


def train(model: Model, lesson: Lesson, course: Course, tell: Tell, *, resume: bool) -> bool:
    """Train until all steps are taken, or until ``tell`` says to stop; returns whether they all are.

    Batches depend on the seed and the step's number, so that an interrupted training that goes on takes the same
    steps as one that was left alone.

    Raises:
        OutputConflict: the folder holds another training.
        UsageError: parameters out of range, or the losses are no numbers any more.
    """
    lesson.check()
    facts = {"style": course.style, "model": f"{model.path.name} ({model.sha256[:12]})"}
    plan = model.plan(StyleTransfer(), device=course.device, threads=course.threads)  # type: ignore[arg-type]
    with cast(Differentiable, model.oracle(plan)).tape() as tape:
        pupil = _Pupil(lesson, tape, model, course.picture)  # what cannot be learnt is told before a folder is made
        make_folder(course.folder)
        begin(course.folder, lesson, facts, resume=resume)
        write_atomically(course.folder / PICTURE, [encode_png(course.picture.astype(np.uint8))])
        pupil.restore(course.folder / CHECKPOINT)
        going = True
        while going and len(pupil.losses) < lesson.steps:
            going = _step(pupil, course, tell)
        _save(pupil, course)
        if len(pupil.losses) == lesson.steps:
            _finish(pupil, course, facts)
    return len(pupil.losses) == lesson.steps


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
        write_losses(course.folder, pupil.losses)
        make_folder(course.folder / VALIDATION)
        sheet = course.folder / VALIDATION / f"step_{len(pupil.losses):06d}.png"
        write_atomically(sheet, [encode_png(pupil.sheet(course.pictures))])


def _finish(pupil: _Pupil, course: Course, facts: dict[str, str]) -> None:
    last = pupil.losses[-min(50, len(pupil.losses)) :]
    card = Card(
        style=facts["style"], model=facts["model"], steps=len(pupil.losses),
        style_weight=pupil.lesson.style_weight, content_weight=pupil.lesson.content_weight,
        style_loss=float(np.mean([one.style for one in last])),
        content_loss=float(np.mean([one.content for one in last])),
        parity=export_network(pupil.network, course.folder / GRAPH, pupil.lesson.crop),
    )  # fmt: skip
    write_atomically(course.folder / CARD, [card.to_json().encode()])


class _Pupil:
    """A network while it learns."""

    def __init__(self, lesson: Lesson, tape: Tape, model: Model, picture: FloatArray):
        self.lesson, self.losses = lesson, list[Losses]()
        self._tape, self._preprocess = tape, model.preprocess
        self._layers = lesson.style_layers or style_layers(model)
        self._content = lesson.content_layers or (content_layer(model),)
        fields = {layer: model.layers.find(layer).field for layer in (*self._layers, *self._content)}
        self._tiles = mosaic(fields, (lesson.crop, lesson.crop), None, MARGIN)  # as it is applied
        style = widened(tape.tensor(model.preprocess.normalise(picture[None])))
        tiles = mosaic(fields, (style.shape[-2], style.shape[-1]), None, MARGIN)
        self._grams = mixed_grams([features_of(tape, style, self._layers, tiles)], [1.0])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(lesson.seed)
            self.network = StyleNetwork(lesson.width, lesson.blocks).to(tape.device)
        self._optimiser = torch.optim.Adam(self.network.parameters(), lr=lesson.rate)
        self._variation = TotalVariation(1.0)

    def learn(self, batch: FloatArray) -> Losses:
        """One step on pictures (B, 3, H, W) of 0 to 1."""
        lesson = self.lesson
        pixels = torch.from_numpy(batch).to(self._tape.device)
        for group in self._optimiser.param_groups:
            group["lr"] = lesson.rate_at(len(self.losses))
        content = features_of(self._tape, seen(pixels, self._preprocess), self._content, self._tiles)
        weights = dict.fromkeys(self._layers, 1 / len(self._layers))
        goal = Goal(
            content=content, style=self._grams, layer_weights=weights,
            content_weight=lesson.content_weight, style_weight=lesson.style_weight,
        )  # fmt: skip
        objective = Stylisation(self._tape, goal, self._tiles)
        painted = seen(self.network(pixels), self._preprocess)
        variation = self._variation(painted)  # (B,)
        loss = (lesson.total_variation * variation - objective(painted)).mean()
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        found = (objective.style, objective.content, variation.detach())
        self.losses.append(Losses(*(float(part.mean()) for part in found)))
        return self.losses[-1]

    def sheet(self, pictures: Pictures) -> ByteArray:
        """The first pictures above what the network makes of them."""
        batch = draw_batch(pictures, count=SHOWN, crop=self.lesson.crop, seed=self.lesson.seed + 1, step=0)
        wide = np.pad(batch, ((0, 0), (0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)), mode="symmetric")
        with torch.no_grad():
            painted = self.network(torch.from_numpy(wide).to(self._tape.device)).cpu().numpy()
        painted = painted[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
        rows = [np.concatenate(list(np.moveaxis(part, 1, -1)), axis=1) for part in (batch, painted)]
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
