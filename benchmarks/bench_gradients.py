"""Gradient attributions against Captum's and PGD against a plain loop in torch, images per second.

A peer is given its best arrangement: the module as it is and channels last, a few images per run and many.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from networks import SIDE, Network
from torch import Tensor

from sightline.methods.gradient.guided_backprop import GuidedBackprop
from sightline.methods.gradient.integrated_gradients import IntegratedGradients
from sightline.methods.gradient.pgd import Pgd
from sightline.methods.gradient.saliency import Saliency
from sightline.target import logit, top
from sightline.types import Batch

IMAGES = 16
PER_RUN = (4, 16)  # images that a peer gets at once
LAYOUTS = {"": torch.contiguous_format, ", channels last": torch.channels_last}
POINTS = 50  # of the line of integrated gradients
POINTS_PER_RUN = (10, 25)
ATTACKED = 8
ASCENTS = 10  # steps of an attack

Layout = Any
Peer = Callable[[], Any]


def test_saliency(network: Network, race: Any, pytestconfig: pytest.Config) -> None:
    measure(network, network.module, race, pytestconfig, Saliency(), captum.attr.Saliency, "saliency")


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations:UserWarning")
def test_guided_backprop(network: Network, race: Any, pytestconfig: pytest.Config) -> None:
    module = network.hookable()
    if not any(isinstance(part, torch.nn.ReLU) for part in module.modules()):
        pytest.skip(f"{network.title} has no ReLU that Captum knows (ReLU6 is none)")
    measure(network, module, race, pytestconfig, GuidedBackprop(), captum.attr.GuidedBackprop, "guided backprop")


def test_integrated_gradients(network: Network, race: Any, pytestconfig: pytest.Config) -> None:
    images = network.images(1)
    indices = network.highest(images)
    plan = network.model.plan(IntegratedGradients(steps=POINTS), threads=pytestconfig.option.threads)
    peers: dict[str, Peer] = {}
    for title, module, layout in arranged(network.module):
        attribute = partial(captum.attr.IntegratedGradients(module).attribute, n_steps=POINTS)
        for size in POINTS_PER_RUN:
            some = partial(attribute, internal_batch_size=size)
            peers[f"captum, {size} per run{title}"] = partial(peer_maps, some, layout, images, indices, 1, signed)
    compare(
        partial(plan.run, images, logit(indices)), peers, race,
        case=f"integrated gradients, {POINTS} steps, {network.title}, {SIDE}x{SIDE}", work=1,
    )  # fmt: skip


@pytest.mark.parametrize("fooled", [True, False], ids=["until it fools", "every step"])
def test_pgd(network: Network, race: Any, pytestconfig: pytest.Config, fooled: bool) -> None:
    """Ours does what the plain loop does not: pictures of 8 bits, written, read back and run on ONNX Runtime.

    It also stops an image once its picture fools. So there are two races: 2/255 away from the class of the image, and
    1/255 towards the least likely class, where everybody takes every step.
    """
    noise = np.random.default_rng(0).integers(0, 256, (ATTACKED, 3, SIDE, SIDE))
    planes = torch.from_numpy(noise.astype(np.float32) / 255)  # (B, 3, H, W)
    images = Batch.of(((planes - MEAN) / STD).numpy())
    with torch.no_grad():
        logits = network.module(torch.from_numpy(images.tensor))
    epsilon, aims, sign = (2.0, logits.argmax(1), 1) if fooled else (1.0, logits.argmin(1), -1)
    method = Pgd(epsilon=epsilon, steps=ASCENTS, rate=epsilon / 2, random_start=False)
    plan = network.model.plan(method, threads=pytestconfig.option.threads)
    ours = partial(plan.run, images, top(1) if fooled else logit(tuple(aims.tolist())))
    peers: dict[str, Peer] = {}
    for title, module, layout in arranged(network.module):
        for size in (ATTACKED // 2, ATTACKED):
            peers[f"torch, {size} per run{title}"] = partial(
                plain_pgd, module, layout, planes, aims, size, sign, epsilon
            )
    made = ours()
    assert made.linf.max() <= epsilon
    assert made.fooled.tolist() == [fooled] * ATTACKED
    for run in peers.values():
        changed = torch.from_numpy(run())
        with torch.no_grad():
            found = network.module((changed - MEAN) / STD).argmax(1)
        assert ((found != aims) if fooled else (found == aims)).tolist() == [fooled] * ATTACKED
    how = "2/255, until it fools" if fooled else "1/255, every step"
    race(
        ours, peers, case=f"PGD, {ASCENTS} steps, {how}, {network.title}, {SIDE}x{SIDE}", metric="throughput",
        unit="images/s", work=ATTACKED,
    )  # fmt: skip


MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def plain_pgd(
    module: torch.nn.Module, layout: Layout, planes: Tensor, aims: Tensor, size: int, sign: int, epsilon: float
) -> Any:
    """(B, C, H, W) from 0 to 1 away from classes, or towards them (-1): the loop that people write."""
    made: list[Any] = []
    for start in range(0, len(planes), size):
        origin = planes[start : start + size].contiguous(memory_format=layout)
        aim, changed = aims[start : start + size], origin.clone()
        for _ in range(ASCENTS):
            changed.requires_grad_()
            loss = torch.nn.functional.cross_entropy(module((changed - MEAN) / STD), aim)
            (slope,) = torch.autograd.grad(loss, changed)
            moved = changed.detach() + sign * epsilon / 2 / 255 * slope.sign()
            held = (moved - origin).clamp(-epsilon / 255, epsilon / 255)
            changed = (origin + held).clamp(0, 1)
        made.append(changed.numpy())
    return np.concatenate(made)


def measure(
    network: Network, module: torch.nn.Module, race: Any, config: pytest.Config, method: Any, peer: Any, name: str
) -> None:
    images = network.images(IMAGES)
    indices = network.highest(images)
    plan = network.model.plan(method, threads=config.option.threads)
    peers: dict[str, Peer] = {}
    for title, copied, layout in arranged(module):
        attribute = peer(copied).attribute
        for size in PER_RUN:
            run = partial(peer_maps, attribute, layout, images, indices, size, largest)
            peers[f"captum, {size} per run{title}"] = run
    compare(
        partial(plan.run, images, logit(indices)), peers, race, case=f"{name}, {network.title}, {SIDE}x{SIDE}",
        work=IMAGES,
    )  # fmt: skip


def compare(ours: Peer, peers: dict[str, Peer], race: Any, *, case: str, work: int) -> None:
    """Race maps that agree: not to the last digit, for where a ReLU's input is 0 up to rounding they choose sides."""
    found = ours().values  # (B, H, W)
    for run in peers.values():
        assert np.corrcoef(found.ravel(), run().ravel())[0, 1] > 0.999
    race(ours, peers, case=case, metric="throughput", unit="images/s", work=work)


def arranged(module: torch.nn.Module) -> list[tuple[str, torch.nn.Module, Layout]]:
    """The module in every layout, with what to say of it."""
    return [
        (title, copy.deepcopy(module).to(memory_format=layout), layout)  # pyright: ignore[reportCallIssue]
        for title, layout in LAYOUTS.items()
    ]


def peer_maps(
    attribute: Callable[..., Any],
    layout: Layout,
    images: Batch,
    indices: tuple[int, ...],
    size: int,
    reduced: Callable[[Tensor], Tensor],
) -> Any:
    """(B, H, W) what the peer says of every pixel."""
    maps: list[Any] = []
    for start in range(0, len(images), size):
        rows = slice(start, start + size)
        leaf = torch.from_numpy(images.tensor[rows]).contiguous(memory_format=layout).requires_grad_()
        maps.append(reduced(attribute(leaf, target=list(indices[rows]))).detach().numpy())
    return np.concatenate(maps)


def largest(gradient: Tensor) -> Tensor:
    """Over the channels, by size."""
    return gradient.abs().amax(1)


def signed(values: Tensor) -> Tensor:
    """Over the channels, the sum."""
    return values.sum(1)
