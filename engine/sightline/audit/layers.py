"""Where in the network two artefacts part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sightline.audit.context import Artefact
from sightline.audit.weights import paired, weights_of
from sightline.graph.codes import quantisation, unreadable_codes
from sightline.graph.layers import Layer
from sightline.model import Model

RELUS = ("Relu", "Clip")
FEWEST = 3  # layers of the same name and shape that make names trustworthy


@dataclass(frozen=True)
class Divergence:
    """Relative differences of the layers that both have.

    Attributes:
        names: in the order in which the reference runs them.
        errors: length of the difference over the length of the reference's values, over some photographs.
        by: "name", "structure" or "weights".
    """

    names: tuple[str, ...]
    errors: tuple[float, ...]
    by: str

    def first(self, beyond: float) -> int | None:
        """Place of the first layer that is farther apart than this."""
        return next((place for place, error in enumerate(self.errors) if not error <= beyond), None)


def matched(reference: Model, candidate: Model) -> tuple[list[tuple[Layer, Layer]], str]:
    """Layers of both that compute the same thing, and how that was found out.

    By the names that people know them by, where those agree in shape; else by structure: the layers with weights, if
    there are as many of the same shapes in the same order; else by the weights themselves, whatever their order. Sums
    of integers whose scale is applied later are no layers to compare.
    """
    sums = [unreadable_codes(model.graph) for model in (reference, candidate)]
    found, by = _matched(reference, candidate)
    return [(one, other) for one, other in found if one.name not in sums[0] and other.name not in sums[1]], by


def _matched(reference: Model, candidate: Model) -> tuple[list[tuple[Layer, Layer]], str]:
    names = {layer.name for layer in reference.layers}
    named = {layer.name: layer for layer in candidate.layers}
    titled = {candidate.layers.title(name): layer for name, layer in named.items() if name not in names}
    pairs = list[tuple[Layer, Layer]]()
    for layer in reference.layers:
        other = named.get(layer.name) or titled.get(reference.layers.title(layer.name))
        if other is not None and _alike(reference, layer, candidate, other):
            pairs.append((layer, other))
    if len(pairs) >= FEWEST:
        return pairs, "name"
    ours, theirs = ([one for one in model.layers if one.parameters and one.shape] for model in (reference, candidate))
    if [_of_one(reference, one) for one in ours] == [_of_one(candidate, one) for one in theirs]:
        return list(zip(ours, theirs, strict=True)), "structure"
    found = _by_weights(reference, candidate)
    return (found, "weights") if len(found) > len(pairs) else (pairs, "name")


def _by_weights(reference: Model, candidate: Model) -> list[tuple[Layer, Layer]]:
    known = [{layer.name: layer for layer in model.layers} for model in (reference, candidate)]
    pairs, *_ = paired(weights_of(reference), weights_of(candidate))
    found = [(known[0].get(one.name), known[1].get(other.name)) for one, other in pairs]
    return [
        (one, other)
        for one, other in found
        if one is not None and other is not None and _alike(reference, one, candidate, other)
    ]


def _alike(reference: Model, one: Layer, candidate: Model, other: Layer) -> bool:
    """Whether both have a shape that is known, and the same."""
    shape = _of_one(reference, one)
    return bool(shape) and shape == _of_one(candidate, other)


def _of_one(model: Model, layer: Layer) -> tuple[int, ...]:
    """A layer's shape for one image, whatever batch the graph was made for; () where nobody knows."""
    if not layer.shape:
        return ()
    batch = model.input.batch or 1
    first, *rest = layer.shape
    return (first // batch if first % batch == 0 else first, *rest)


def settled(model: Model, name: str) -> str:
    """The value of a layer as those behind it read it: rounded, where it is quantised and read back.

    A ReLU in front of a QuantizeLinear is often left out, since codes of nothing below 0 clip as it would.
    """
    value = _values(model).get(name)
    codes = None if value is None else _quantised(value)
    for back in codes.uses() if codes is not None else ():
        if back.node.op_type == "DequantizeLinear" and back.idx == 0:
            return str(back.node.outputs[0].name)
    return name


def compared(reference: Model, candidate: Model, pairs: Sequence[tuple[Layer, Layer]]) -> tuple[list[str], list[str]]:
    """The values of both that are compared, by layer.

    Where the candidate's codes stand for nothing below 0, a ReLU behind the layer may have been left out: there the
    reference is read behind its own.
    """
    ours, theirs = _values(reference), _values(candidate)
    mine = [settled(reference, one.name) for one, _ in pairs]
    for place, (one, other) in enumerate(pairs):
        if mine[place] == one.name and _rectified(theirs[other.name]):
            mine[place] = _behind_relu(ours[one.name])
    return mine, [settled(candidate, other.name) for _, other in pairs]


def _values(model: Model) -> dict[str, ir.Value]:
    return {str(value.name): value for node in model.graph.graph for value in node.outputs}


def _quantised(value: ir.Value) -> ir.Value | None:
    """The codes of a value that is quantised and read back."""
    uses = (use for use in value.uses() if use.node.op_type == "QuantizeLinear" and use.idx == 0)
    return next((use.node.outputs[0] for use in uses), None)


def _rectified(value: ir.Value) -> bool:
    """Whether a value is codes, or quantised at once, of nothing below 0."""
    how = quantisation(_quantised(value) or value)
    return how is not None and how.rectifies


def _behind_relu(value: ir.Value) -> str:
    """The name of what a ReLU makes of a value that nothing else reads; else its own."""
    uses = list(value.uses())
    alone = len(uses) == 1 and uses[0].idx == 0 and uses[0].node.op_type in RELUS
    return str(uses[0].node.outputs[0].name if alone else value.name)


def divergence(reference: Artefact, candidate: Artefact, photographs: int) -> Divergence:
    """Compare the layers on the first photographs, one after the other, so that one image's maps are held."""
    pairs, by = matched(reference.model, candidate.model)
    if not pairs:
        return Divergence((), (), by)
    ours, theirs = compared(reference.model, candidate.model, pairs)
    noise, signal = np.zeros(len(pairs)), np.zeros(len(pairs))
    for row in range(min(photographs, len(reference.inputs))):
        only = np.array([row])
        one = reference.oracle.read(reference.some(only).tensor, tuple(ours))
        other = candidate.oracle.read(candidate.some(only).tensor, tuple(theirs))
        for place, (mine, its) in enumerate(zip(ours, theirs, strict=True)):
            wide = one[mine].astype(np.float64)
            noise[place] += float(np.square(wide - other[its]).sum())
            signal[place] += float(np.square(wide).sum())
    errors = np.sqrt(noise / np.maximum(signal, 1e-30))
    titles = tuple(reference.model.layers.title(one.name) for one, _ in pairs)
    return Divergence(titles, tuple(float(one) for one in errors), by)
