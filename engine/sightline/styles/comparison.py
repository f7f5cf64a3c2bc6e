"""One picture's texture and style by every way there is, with what each costs and how near it comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from sightline.abilities import Differentiable
from sightline.ascent.octaves import enlarged
from sightline.errors import UsageError
from sightline.image import read_image
from sightline.methods.gradient.gatys_texture import GatysTexture
from sightline.methods.gradient.style_transfer import StyleTransfer, read_style
from sightline.model import Model
from sightline.routes.base import Settings
from sightline.styles.one_pass import one_pass
from sightline.styles.style import PICTURE, Style
from sightline.styles.stylist import Stylist
from sightline.target import top
from sightline.textures.quilting import Quilting
from sightline.textures.sample import Sample
from sightline.textures.scanline import Scanline
from sightline.types import Batch, ByteArray, FloatArray, Photo

SAMPLE = 96  # pixels of the shorter side of what textures are made from
Announce = Callable[[str], None]


@dataclass(frozen=True)
class Made:
    """A picture and what it took.

    Attributes:
        name: for tables.
        title, text: what it is.
        pixels: (h, w, 3).
        seconds: without reading the picture and opening the model; None of what was given.
        style_loss, content_loss: where they mean something.
    """

    name: str
    title: str
    text: str
    pixels: ByteArray
    seconds: float | None = None
    style_loss: float | None = None
    content_loss: float | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared.

    Attributes:
        model: the network that judges.
        picture: of the style.
        style: a trained network for it, if there is one.
        content: the photograph.
        side: pixels of all results.
        steps: of both descents.
        threads: of every runtime; all cores when None.
        device: of the network; textures are made on the CPU.
        seed: of all that is drawn.
    """

    model: Model
    picture: Path
    style: Style | None
    content: Path
    side: int = 256
    steps: int = 300
    threads: int | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    seed: int = 0

    @classmethod
    def of(cls, model: Model, source: str, content: Path, **options: Any) -> Comparison:
        """Of a style: a folder of ``sightline style train``, ``demo``, or a picture that no network was trained for.

        Raises:
            UsageError: there is neither.
        """
        path = Path(source)
        if path.is_file() and path.suffix != ".onnx":
            return cls(model=model, picture=path, style=None, content=content, **options)
        style = Style.read(source)
        if style.picture is None:
            raise UsageError(f"{source} holds a network but no {PICTURE}. Give the folder of sightline style train.")
        return cls(model=model, picture=style.picture, style=style, content=content, **options)

    def run(self, announce: Announce) -> Iterator[Made]:
        """Textures first, then paintings; each is announced before it is made."""
        yield from self._textures(announce)
        yield from self._paintings(announce)

    def _textures(self, announce: Announce) -> Iterator[Made]:
        pixels = _square(read_style(str(self.picture), SAMPLE)).round().astype(np.uint8)
        yield Made(
            "sample", "Sample", f"{SAMPLE} x {SAMPLE} pixels of the style: what textures are made from.", pixels
        )
        sample = Sample("the sample", pixels, np.ones(pixels.shape[:2], np.bool_))
        makers = (
            ("scanline", "Scanline texture", "Pixel by pixel from the nearest neighbourhoods (Efros, Leung 1999).",
             Scanline(seed=self.seed, threads=self.threads)),
            ("quilting", "Quilted texture", "Blocks along seams of least error (Efros, Freeman 2001).",
             Quilting(seed=self.seed, threads=self.threads)),
        )  # fmt: skip
        for name, title, text, maker in makers:
            announce(title)
            maker.make(sample, (SAMPLE, SAMPLE))  # compiles
            start = time.perf_counter()
            made = maker.make(sample, (self.side, self.side))
            yield Made(name, title, text, made.pixels, time.perf_counter() - start)
        announce("Gram texture")
        method = GatysTexture(side=self.side, steps=self.steps, seed=self.seed)
        batch = Batch(self.model.preprocess.normalise(pixels[None].astype(np.float32)), (Photo("sample"),))
        oracle = self._oracle(method)
        start = time.perf_counter()
        painted = method.run(oracle, batch, top())
        yield Made(
            "gram", "Gram texture", f"From noise by {self.steps} steps on Gram matrices (Gatys et al. 2015).",
            painted.pictures[0], time.perf_counter() - start, float(painted.style_after[0]),
        )  # fmt: skip

    def _paintings(self, announce: Announce) -> Iterator[Made]:
        picture = read_image(self.picture)
        method = StyleTransfer(style=(str(self.picture),), side=self.side, steps=self.steps, seed=self.seed)
        if self.style is not None and self.style.card is not None:  # the descent has the aims that the network had
            card, scale = self.style.card, min(picture.size) / self.side
            method = replace(
                method, style_scale=scale, style_weight=card.style_weight, content_weight=card.content_weight
            )
        oracle, preprocess = self._oracle(method), self.model.preprocess
        tensor, photo = self.model.photograph(read_image(self.content), Photo(self.content.name, self.content))
        batch = Batch(tensor[None], (photo,))
        shown = preprocess.to_pixels(enlarged(batch, preprocess, self.side))
        style, _ = method.judge(oracle, batch, shown)
        yield Made("content", "Photograph", "What is to be painted.", shown[0], None, float(style[0]), 0.0)
        announce("Slow stylisation")
        start = time.perf_counter()
        painted = method.run(oracle, batch, top())
        yield Made(
            "slow", "Slow stylisation", f"By {self.steps} steps from the photograph (Gatys et al. 2016).",
            painted.pictures[0], time.perf_counter() - start, float(painted.style_after[0]),
            float(painted.content_after[0]),
        )  # fmt: skip
        if self.style is None:
            return
        announce("Fast stylisation")
        stylist = Stylist(self.style, Settings(device=self.device, threads=self.threads))
        fast = one_pass(stylist, shown, method, oracle, batch)
        yield Made(
            "fast", "Fast stylisation", "In one pass of a network trained for this style (Johnson et al. 2016).",
            fast.pictures[0], fast.provenance.seconds if fast.provenance else None, float(fast.style_after[0]),
            float(fast.content_after[0]),
        )  # fmt: skip

    def _oracle(self, method: GatysTexture | StyleTransfer) -> Differentiable:
        plan = self.model.plan(method, device=self.device, threads=self.threads)
        return cast("Differentiable", self.model.oracle(plan))


def _square(picture: FloatArray) -> FloatArray:
    """The middle of a picture (h, w, 3)."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]
