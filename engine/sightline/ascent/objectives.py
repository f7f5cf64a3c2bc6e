"""What pictures are made to climb: functions from pictures (B, C, H, W) to scores (B,), larger is better."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sightline.abilities import Tape
from sightline.ascent.loop import Objective
from sightline.target import Target


def score(tape: Tape, target: Target) -> Objective:
    """The value of a bound target."""
    return lambda images: target.value(tape(images, target))


def likeness(tape: Tape, wanted: Mapping[str, Tensor]) -> Objective:
    """Minus the squared distance to wanted features, over their squared norm; the mean over layers.

    Mahendran, Vedaldi, "Understanding Deep Image Representations by Inverting Them" (2015), equation 2.

    Args:
        tape: runs the network.
        wanted: by layer, (B, C, h, w) or (B, D).
    """
    norms = {layer: features.square().flatten(1).sum(dim=1) for layer, features in wanted.items()}

    def minus_error(images: Tensor) -> Tensor:
        outputs = tape(images, layers=tuple(wanted))
        errors = [
            (outputs.tap(layer) - features).square().flatten(1).sum(dim=1) / norms[layer].clamp_min(1e-12)
            for layer, features in wanted.items()
        ]
        return -torch.stack(errors).mean(dim=0)

    return minus_error


def strength(tape: Tape, layer: str, channel: int | None) -> Objective:
    """Half the mean square of a layer, so that what is there grows by itself; or the mean of one of its channels.

    Mordvintsev, Olah, Tyka, "Inceptionism" (2015).
    """

    def strong(images: Tensor) -> Tensor:
        features = tape(images, layers=(layer,)).tap(layer)  # (B, C, h, w) or (B, D)
        if channel is None:
            return features.square().flatten(1).mean(dim=1) / 2
        return features[:, channel].reshape(len(features), -1).mean(dim=1)

    return strong


def resemblance(tape: Tape, layer: str, guide: Tensor) -> Objective:
    """Mean product of each position's features with those of the guide's position that it resembles most.

    Mordvintsev, Olah, Tyka, "Inceptionism" (2015), guided dreaming. Resemblance is the product itself.

    Args:
        tape: runs the network.
        layer: with positions.
        guide: (1, C, h, w) of the guide picture.
    """
    known = guide[0].flatten(1)  # (C, P)

    def alike(images: Tensor) -> Tensor:
        features = tape(images, layers=(layer,)).tap(layer).flatten(2)  # (B, C, p)
        products = features.transpose(1, 2) @ known  # (B, p, P)
        return products.amax(dim=2).mean(dim=1)

    return alike
