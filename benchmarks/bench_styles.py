"""Styles: how far descents come, their steps per second beside a plain torch loop, and one pass of a network."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from networks import MODELS, Network, squeezenet
from on_gpu.painting import eager
from PIL import Image
from recording import Session, append
from skimage import data
from torch import Tensor

from sightline.abilities import Differentiable
from sightline.ascent.depth import content_layer, style_layers
from sightline.image import read_image
from sightline.methods.gradient.gatys_texture import GatysTexture
from sightline.methods.gradient.style_transfer import StyleTransfer, read_style
from sightline.model import Model
from sightline.reading import read
from sightline.routes.base import Settings
from sightline.styles.style import OWN, PICTURE, Style
from sightline.styles.stylist import Stylist
from sightline.styles.training.network import StyleNetwork
from sightline.target import top
from sightline.types import Batch, ByteArray, FloatArray, Photo

PHOTOGRAPHS = (100, 300, 500)  # of the folder, that are painted
STEPS, TIMED = 300, 40


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Network:
    if not (MODELS / "squeezenet1_0.onnx").is_file():
        pytest.skip("the trained network is not beside the checkout")
    return squeezenet(tmp_path_factory.mktemp("judge"), pytestconfig.option.threads)


def photographs(model: Model) -> Batch:
    files = sorted((MODELS.parent / "images").iterdir())
    return read([str(files[place]) for place in PHOTOGRAPHS], like=model)


@pytest.mark.parametrize("name", ["brick", "grass", "gravel"])
def test_texture(judge: Network, name: str, session: Session) -> None:
    grey = getattr(data, name)()[:224, :224]
    sample = judge.model.preprocess.normalise(np.repeat(grey[None, :, :, None], 3, axis=3).astype(np.float32))
    plan = judge.model.plan(GatysTexture(steps=STEPS), threads=session.threads)
    made: Any = plan.run(Batch(sample, (Photo(name),)), top())
    note(session, f"Gram texture of {name}, {STEPS} steps", {
        "style loss of noise over that of the texture": float(made.style_before[0] / made.style_after[0])
    })  # fmt: skip


def test_transfer(judge: Network, session: Session) -> None:
    """Descent, and one pass of the network in the box, judged alike."""
    model, images = judge.model, photographs(judge.model)
    card = Style.read("demo").card
    assert card is not None
    scale = min(read_image(OWN / PICTURE).size) / images.tensor.shape[2]
    asked = {"default weights": StyleTransfer(steps=STEPS), "weights of the style in the box": StyleTransfer(
        steps=STEPS, style_scale=scale, style_weight=card.style_weight, content_weight=card.content_weight
    )}  # fmt: skip
    for title, method in asked.items():
        plan = model.plan(method, threads=session.threads)
        made: Any = plan.run(images, top())
        oracle: Differentiable = model.oracle(plan)  # type: ignore[assignment]
        shown = model.preprocess.to_pixels(images.tensor)
        _, other = method.judge(oracle, images, np.roll(shown, 1, axis=0))
        fast, away = method.judge(oracle, images, np.stack(Stylist(Style.read("demo")).paint(shown)))
        note(session, f"SqueezeNet 1.0, {STEPS} steps, {title}", {
            "style loss of the photograph over the painting's": median(made.style_before / made.style_after),
            "style loss of the painting": median(made.style_after),
            "content loss of the painting": median(made.content_after),
            "content loss of another photograph": median(other),
            "style loss of one pass": median(fast), "content loss of one pass": median(away),
        })  # fmt: skip


@pytest.mark.parametrize("count", [1, 4])
def test_steps(judge: Network, count: int, race: Any, session: Session) -> None:
    """Adam on Gram matrices, features and total variation, at one size, without a margin on torch's side."""
    model = judge.model
    noise = np.random.default_rng(0).uniform(0, 255, (count, 224, 224, 3)).astype(np.float32)
    images = Batch.of(model.preprocess.normalise(noise))
    style = model.preprocess.normalise(read_style("", 224)[None])
    plan = model.plan(StyleTransfer(steps=TIMED, optimiser="adam", octaves=1), threads=session.threads)
    wanted = (style_layers(model), content_layer(model))
    peers = {
        f"torch{title}": partial(plain_descent, judge.module, images.tensor, style, *wanted, layout)
        for title, layout in (("", torch.contiguous_format), (", channels last", torch.channels_last))
    }
    race(
        partial(plan.run, images, top()), peers, case=f"style transfer, {count} at 224², Adam, SqueezeNet 1.0",
        metric="throughput", unit="steps/s", work=count * TIMED,
    )  # fmt: skip


def plain_descent(
    module: torch.nn.Module, images: FloatArray, style: FloatArray, layers: tuple[str, ...], deep: str, layout: Any
) -> Tensor:
    """The loop that tutorials show, on the same layers; margins as ours."""
    kept = dict[str, Tensor]()
    hooks = [
        module.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: kept.__setitem__(name, out))
        for name in {*layers, deep}
    ]
    features: Any = module.get_submodule("features")

    def matrices() -> list[Tensor]:
        flat = [kept[name].flatten(2) for name in layers]
        return [torch.bmm(one, one.transpose(1, 2)) / one.shape[2] for one in flat]

    try:
        with torch.no_grad():
            features(torch.from_numpy(style).contiguous(memory_format=layout))
            grams = matrices()
            wide = torch.nn.functional.pad(torch.from_numpy(images), (16,) * 4, mode="reflect")
            wide = wide.contiguous(memory_format=layout)
            features(wide)
            content = kept[deep].clone()
        picture = wide.clone().requires_grad_()
        optimiser = torch.optim.Adam([picture], lr=0.1)
        for _ in range(TIMED):
            optimiser.zero_grad()
            features(picture)
            loss = 0.5 * torch.nn.functional.mse_loss(kept[deep], content)
            for found, aim in zip(matrices(), grams, strict=True):
                loss = loss + 2 * (found - aim).square().sum() / aim.square().sum()
            loss = loss + 0.05 * ((picture[:, :, 1:] - picture[:, :, :-1]).square().mean()
                                  + (picture[:, :, :, 1:] - picture[:, :, :, :-1]).square().mean())  # fmt: skip
            loss.backward()
            optimiser.step()
        return picture.detach()
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("side", [256, 1024])
def test_one_pass(side: int, race: Any, session: Session) -> None:
    """The network in the box on ONNX Runtime and in torch, from bytes to bytes, margins as ours."""
    module, picture = eager(), photograph(side)
    passes = 20 if side < 512 else 3  # a single short one would see the threads of the subject before still spinning
    stylist = Stylist(Style.read("demo"), Settings(threads=session.threads))
    torch.set_num_threads(session.threads)
    peers = {
        f"torch{title}": partial(repeated, passes, partial(by_torch, module, picture, layout))
        for title, layout in (("", torch.contiguous_format), (", channels last", torch.channels_last))
    }
    ours = stylist.paint([picture])[0]
    assert np.abs(ours.astype(int) - by_torch(module, picture, torch.contiguous_format)).max() <= 1
    race(
        partial(repeated, passes, partial(stylist.paint, [picture])), peers, case=f"fast style at {side}²",
        metric="throughput", unit="images/s", work=passes,
    )  # fmt: skip


def repeated(times: int, call: Callable[[], object]) -> None:
    for _ in range(times):
        call()


@torch.inference_mode()
def by_torch(module: StyleNetwork, picture: ByteArray, layout: Any) -> ByteArray:
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    for axis in (2, 3):  # mirrored with the edge doubled, as ours
        length = picture.shape[axis - 2]
        places = torch.arange(-16, length + 16) % (2 * length)
        pixels = pixels.index_select(axis, torch.where(places < length, places, 2 * length - 1 - places))
    painted = module(pixels.contiguous(memory_format=layout))[0, :, 16:-16, 16:-16]
    return (painted.permute(1, 2, 0) * 255).round().clamp(0, 255).byte().numpy()


def photograph(side: int) -> ByteArray:
    """(side, side, 3) of a photograph that comes with scikit-image."""
    return np.array(Image.fromarray(data.astronaut()).resize((side, side)))


def test_slow_and_fast(judge: Network, race: Any, session: Session) -> None:
    """The notes' "very slow!": 300 steps of descent beside one pass, 224² each."""
    images = photographs(judge.model)[:1]
    plan = judge.model.plan(StyleTransfer(steps=STEPS), threads=session.threads)
    shown = judge.model.preprocess.to_pixels(images.tensor)
    stylist = Stylist(Style.read("demo"), Settings(threads=session.threads))
    passes = 20
    race(
        partial(repeated, passes, partial(stylist.paint, list(shown))),
        {f"{STEPS} steps of descent": partial(plan.run, images, top())},
        case="one pass and descent, 224²", metric="throughput", unit="images/s",
        work={"sightline": passes, f"{STEPS} steps of descent": 1},
    )  # fmt: skip


LARGE = """
import sys
import numpy as np
from PIL import Image
from skimage import data
from sightline.routes.base import Settings
from sightline.styles.style import Style
from sightline.styles.stylist import Stylist
side = int(sys.argv[1])
picture = np.asarray(Image.fromarray(data.astronaut()).resize((side, side)))
stylist = Stylist(Style.read("demo"), Settings(threads=int(sys.argv[2])))
stylist.paint([picture])
with open("/proc/self/status") as file:
    print(next(int(line.split()[1]) for line in file if line.startswith("VmHWM")))
"""


def test_large(session: Session) -> None:
    """Peak memory of a whole process that paints 4096², and what seams are: tiled against whole, 2048²."""
    command = [sys.executable, "-c", LARGE, "4096", str(session.threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    picture = photograph(2048)
    settings = Settings(threads=session.threads)
    tiled = Stylist(Style.read("demo"), settings, tile=512).paint_tiled(picture).astype(np.int64)
    alone = Stylist(Style.read("demo"), settings, tile=4096).paint_tiled(picture).astype(np.int64)
    whole = Stylist(Style.read("demo"), settings, tile=4096).paint([picture])[0].astype(np.int64)
    edges = [2048 * place // 4 for place in (1, 2, 3)]
    across = np.concatenate([np.abs(tiled - alone)[edge - 2 : edge + 2].ravel() for edge in edges])
    note(session, "fast style, large pictures", {
        "peak memory of 4096², GB": int(done.stdout) * 1024 / 1e9,
        "grey levels at seams, mean": float(across.mean()),
        "grey levels from the untiled picture, mean": float(np.abs(tiled - whole).mean()),
    })  # fmt: skip


def median(values: FloatArray) -> float:
    return float(np.median(values))


def note(session: Session, case: str, figures: dict[str, float]) -> None:
    append(session.path, [
        session.row(
            benchmark="styles", case=case, subject="sightline", metric=name, unit="", value=value, low=value,
            high=value, rounds=1, ratio_to="", ratio=None, ratio_low=None, ratio_high=None, others=None,
        )
        for name, value in figures.items()
    ])  # fmt: skip
    for name, value in figures.items():
        print(f"{case}: {name} {value:.4g}")
