"""How the score is handed back from layer to layer, without loss, down to the pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from sightline.abilities import Differentiable, Tape
from sightline.errors import UsageError
from sightline.methods.gradient._attribution import Attributed, Attribution, Reduction
from sightline.registry import method
from sightline.relevance import Box, Composite, Epsilon, Flat, Gamma, ZPlus
from sightline.target import Outputs, Target, as_numpy, needs_classes
from sightline.types import Batch, FloatArray

Name = Literal["epsilon", "gamma", "z_plus", "epsilon_plus_flat", "epsilon_gamma_box", "by_depth"]
NAMES = ("epsilon", "gamma", "z_plus", "epsilon_plus_flat", "epsilon_gamma_box", "by_depth")


@method(needs=Differentiable)
@dataclass(frozen=True, kw_only=True)
class Lrp(Attribution):
    """Layer-wise relevance propagation: every layer shares its relevance among its inputs by their contributions.

    Bach, Binder, Montavon, Klauschen, Müller, Samek (2015); rules and composites of Montavon, Binder, Lapuschkin,
    Samek, Müller (2019). Convolutions get, from the image to the score: ``epsilon``, ``gamma`` and ``z_plus`` one
    rule throughout; ``epsilon_plus_flat`` flat, then z-plus; ``epsilon_gamma_box`` the pixel box, then gamma;
    ``by_depth`` the box, gamma in the lower half, epsilon above. Matrix products get epsilon. Activations of single
    elements (ReLU, GELU, SiLU, HardSwish) hand relevance on unchanged. Gates count as constants, so that what they
    scale takes all: SiLU and GELU written out, squeeze-and-excitation (Arras, Montavon, Müller, Samek 2017); so do
    divisors and the deviation of a layer normalisation (Ali et al. 2022). Relevance starts as what the target makes
    of the scores it reads, each times its weight. The gap that is reported for every image is what biases and epsilon
    kept. Normalisation with fixed statistics is folded into convolutions first.

    Returns ``CompleteHeatmaps`` (B, H, W) float32 in units of the score; positive speaks for the target.

    Raises:
        UsageError: parameters out of range; a box without preprocessing, which says how dark and bright pixels are.
        UnsupportedOperator: the network computes what no rule covers, such as attention's softmax.
    """

    composite: Name = "epsilon_plus_flat"  # which rule on which layer
    epsilon: float = 1e-6  # absorbs relevance where contributions cancel, in units of a layer's output
    gamma: float = 0.25  # how much more positive weights count, where the composite has gamma
    biases: bool = True  # biases take their share, which the pixels lack; else it is handed on
    reduce: Reduction = "sum"  # over channels: "sum" keeps the sign; abs_sum, max_abs, mean_abs, l2

    def attribute(self, oracle: Differentiable, images: Batch, target: Target) -> Attributed:
        if not self.epsilon > 0 or not self.gamma >= 0:
            raise UsageError(f"epsilon={self.epsilon} must be above 0 and gamma={self.gamma} at least 0.")
        rule = self._rule(oracle)
        bound = oracle.bind(images.tensor, target)
        count = len(images)
        if count == 0:
            empty = oracle.gradient(images.tensor, target, at=self.at)
            return Attributed(empty.values, empty.scores, empty.classes, totals=empty.scores)
        batch = oracle.batch_size(count)
        values: list[FloatArray] = []
        totals: list[FloatArray] = []
        with oracle.tape(rule=rule) as tape:
            for first in range(0, count, batch):
                rows = range(first, min(first + batch, count))
                value, total = self._propagated(tape, images.tensor[rows.start : rows.stop], bound.target.take(rows))
                values.append(value)
                totals.append(total)
        return Attributed(
            np.concatenate(values), bound.scores, bound.target.classes(count), totals=np.concatenate(totals)
        )

    def _propagated(self, tape: Tape, images: FloatArray, target: Target) -> tuple[FloatArray, FloatArray]:
        """(b, ...) relevance of the pixels, or of the layer ``at``, and (b,) what set out."""
        pixels = tape.tensor(images).requires_grad_()
        outputs = tape(pixels, target, layers=() if self.at is None else (self.at,))
        read = _read_by(target, outputs)
        slopes = torch.autograd.grad(target.value(outputs).sum(), read, retain_graph=True)
        relevance = [one.detach() * slope for one, slope in zip(read, slopes, strict=True)]
        total = sum(one.flatten(1).sum(dim=1) for one in relevance)  # (b,)
        place = pixels if self.at is None else outputs.tap(self.at)
        (found,) = torch.autograd.grad(read, place, relevance, materialize_grads=True)  # 0 for a layer inside a gate
        return np.asarray(as_numpy(found), np.float32, order="C"), np.asarray(as_numpy(total), np.float32)

    def _rule(self, oracle: Differentiable) -> Composite:
        match self.composite:
            case "epsilon":
                layers = ((1.0, Epsilon()),)
            case "gamma":
                layers = ((1.0, Gamma(self.gamma)),)
            case "z_plus":
                layers = ((1.0, ZPlus()),)
            case "epsilon_plus_flat":
                layers = ((0.0, Flat()), (1.0, ZPlus()))
            case "epsilon_gamma_box":
                layers = ((0.0, _box(oracle)), (1.0, Gamma(self.gamma)))
            case "by_depth":
                layers = ((0.0, _box(oracle)), (0.5, Gamma(self.gamma)), (1.0, Epsilon()))
            case _:
                raise UsageError(f"composite={self.composite!r} is not one of {', '.join(NAMES)}.")
        return Composite(layers, Epsilon(), self.epsilon, self.biases)


def _box(oracle: Differentiable) -> Box:
    low, high = oracle.preprocess.bounds  # (C,) each
    return Box(tuple(low.tolist()), tuple(high.tolist()))


def _read_by(target: Target, outputs: Outputs) -> list[torch.Tensor]:
    """The values from which the target is computed: logits and layers."""
    logits = [outputs.logits] if needs_classes(target) else []
    return logits + [outputs.tap(layer) for layer in target.layers]
