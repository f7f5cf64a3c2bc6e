"""Layers through which everything passes, from the image to the scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sightline.errors import UsageError

if TYPE_CHECKING:
    from sightline.model import Model


def trunk(model: Model, count: int) -> tuple[str, ...]:
    """Up to ``count`` layers with positions, evenly spread over the depth, the first and the last included.

    A layer counts if no path leads around it, so that it holds all that later ones know; convolutions are left to the
    nonlinearity behind them, unless there is nothing else.

    Raises:
        UsageError: no layer has positions.
    """
    found, convolutions = list[str](), list[str]()
    open_until = 0  # the last node that reads anything made so far
    nodes = {node: place for place, node in enumerate(model.graph.graph)}
    layers = {layer.name: layer for layer in model.layers}
    for node, place in nodes.items():
        for value in node.outputs:
            layer = layers.get(str(value.name))
            if layer is None:
                continue
            if open_until <= place and layer.name in model.maps:
                kind = convolutions if layer.operator == "Conv" else found
                kind.append(model.layers.title(layer.name))
            open_until = max([open_until, *(nodes[use.node] for use in value.uses())])
    found = found or convolutions
    if not found:
        raise UsageError(
            f"No layer of {model.path.name} has maps, (N, C, h, w), through which everything passes, so none can be "
            "chosen for you. Name layers that sightline inspect lists, or take a convolutional network."
        )
    if len(found) <= count:
        return tuple(found)
    return tuple(found[round(place * (len(found) - 1) / max(count - 1, 1))] for place in range(count))


# Where a style is compared: five layers down to three fifths of the depth; and a content: at that depth.
STYLE_LAYERS, STYLE_DEPTH, CONTENT_DEPTH = 5, 0.6, 0.6


def style_layers(model: Model) -> tuple[str, ...]:
    """Layers whose Gram matrices make a style, evenly spread from the first one on."""
    whole = trunk(model, len(model.layers.layers))
    places = np.linspace(0, round((len(whole) - 1) * STYLE_DEPTH), STYLE_LAYERS)
    return tuple(whole[place] for place in dict.fromkeys(round(place) for place in places))


def content_layer(model: Model) -> str:
    """A layer that knows what is there and no longer every pixel."""
    whole = trunk(model, len(model.layers.layers))
    return whole[round((len(whole) - 1) * CONTENT_DEPTH)]
