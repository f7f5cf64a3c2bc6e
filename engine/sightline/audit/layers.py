"""Where in the network two artefacts part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sightline.audit.context import Artefact
from sightline.graph.layers import Layer
from sightline.model import Model

FEWEST = 3  # layers of the same name and shape that make names trustworthy


@dataclass(frozen=True)
class Divergence:
    """Relative differences of the layers that both have.

    Attributes:
        names: in the order in which the reference runs them.
        errors: length of the difference over the length of the reference's values, over some photographs.
        by: "name" or "structure".
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
    there are as many of the same shapes in the same order.
    """
    known = {candidate.layers.title(layer.name): layer for layer in candidate.layers}
    known |= {layer.name: layer for layer in candidate.layers}
    pairs = list[tuple[Layer, Layer]]()
    for layer in reference.layers:
        other = known.get(layer.name) or known.get(reference.layers.title(layer.name))
        if other is not None and layer.shape and other.shape == layer.shape:
            pairs.append((layer, other))
    if len(pairs) >= FEWEST:
        return pairs, "name"
    ours, theirs = ([one for one in model.layers if one.parameters and one.shape] for model in (reference, candidate))
    if [one.shape for one in ours] == [one.shape for one in theirs]:
        return list(zip(ours, theirs, strict=True)), "structure"
    return pairs, "name"


def divergence(reference: Artefact, candidate: Artefact, photographs: int) -> Divergence:
    """Compare the layers on the first photographs, one after the other, so that one image's maps are held."""
    pairs, by = matched(reference.model, candidate.model)
    if not pairs:
        return Divergence((), (), by)
    ours, theirs = [one.name for one, _ in pairs], [other.name for _, other in pairs]
    noise, signal = np.zeros(len(pairs)), np.zeros(len(pairs))
    for row in range(min(photographs, len(reference.photos))):
        one = reference.oracle.taps(reference.batch.tensor[row : row + 1], ours)
        other = candidate.oracle.taps(candidate.batch.tensor[row : row + 1], theirs)
        for place, (mine, its) in enumerate(zip(ours, theirs, strict=True)):
            wide = one[mine].astype(np.float64)
            noise[place] += float(np.square(wide - other[its]).sum())
            signal[place] += float(np.square(wide).sum())
    errors = np.sqrt(noise / np.maximum(signal, 1e-30))
    titles = tuple(reference.model.layers.title(name) for name in ours)
    return Divergence(titles, tuple(float(one) for one in errors), by)
