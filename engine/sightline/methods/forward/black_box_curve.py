"""How robust the network is, by an attack that only runs it."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.abilities import Forward
from sightline.methods.forward._robustness import Curve
from sightline.registry import method


@method(needs=Forward)
@dataclass(frozen=True, kw_only=True)
class BlackBoxCurve(Curve):
    """Share of images that withstand an attack without gradients, by the size of change it is allowed.

    Curves of accuracy against perturbation budget, as asked for by Carlini et al., "On Evaluating Adversarial
    Robustness" (2019), with Wilson's intervals. It works on whatever runs, int8 graphs and engines too; where there
    are gradients, ``robustness_curve`` is the stricter judge. What counts as fooled follows the target: ``top`` any
    other class than the image's own, ``logit(281)`` that class.

    Returns ``Robustness`` (B, E) uint8: 1 where image b withstands size e, the first being 0.

    Raises:
        UsageError: an attack without epsilon or one that needs gradients; epsilons that do not ascend.
    """

    attack: str = "square_attack(queries=200)"  # a method with an epsilon that needs no gradient, with its fields
