"""How robust the network is, by an attack that knows its gradients."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.abilities import Differentiable
from sightline.methods.forward._robustness import Curve
from sightline.registry import method


@method(needs=Differentiable)
@dataclass(frozen=True, kw_only=True)
class RobustnessCurve(Curve):
    """Share of images that withstand an attack, by the size of change it is allowed.

    Curves of accuracy against perturbation budget, as asked for by Carlini et al., "On Evaluating Adversarial
    Robustness" (2019), with Wilson's intervals. An upper bound: a better attack may fool more. What counts as fooled
    follows the target: ``top`` any other class than the image's own, ``logit(281)`` that class.

    Returns ``Robustness`` (B, E) uint8: 1 where image b withstands size e, the first being 0.

    Raises:
        UsageError: an attack without epsilon; epsilons that do not ascend.
    """

    attack: str = "pgd"  # a method with an epsilon, with its other fields: pgd(steps=20, restarts=3), fgsm
