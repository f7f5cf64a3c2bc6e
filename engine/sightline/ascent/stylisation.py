"""What a stylised picture climbs: the features of a content, the Gram matrices of a style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sightline.abilities import Tape
from sightline.ascent.gram import channel_products, gram, gram_distance
from sightline.ascent.mosaic import Tile


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What pictures are to resemble. Every loss is relative, so that weights mean the same for all networks.

    Attributes:
        content: features (B, C, h, w) by layer.
        style: Gram matrices (1 or B, C, C) by layer.
        layer_weights: of the style's layers, sum 1.
        content_weight, style_weight: of the mean over layers of each loss.
    """

    content: Mapping[str, Tensor]
    style: Mapping[str, Tensor]
    layer_weights: Mapping[str, float]
    content_weight: float
    style_weight: float

    @property
    def layers(self) -> tuple[str, ...]:
        """All that are looked at."""
        return tuple(dict.fromkeys((*self.style, *self.content)))


@dataclass(frozen=True)
class Seen:
    """Sums over the positions of one tile."""

    products: Sequence[Tensor]  # (B, C, C) by style layer
    errors: Sequence[Tensor]  # (B,) by content layer
    positions: Sequence[int]  # by style layer


class Stylisation:
    """Minus the weighted style and content loss of pictures. Gatys, Ecker, Bethge (2016), each layer normalised.

    A layer's style loss is the squared distance of Gram matrices over the squared norm of the style's, its content
    loss that of features over the content's. With several tiles, one of them at a time is on the tape, and the
    losses are those of the whole picture.

    Attributes:
        style, content: (B,) losses of the last pictures.
    """

    def __init__(self, tape: Tape, goal: Goal, tiles: Sequence[Tile]):
        self._tape, self._goal, self._tiles = tape, goal, tiles
        self._norms = {
            layer: features.square().flatten(1).sum(dim=1).clamp_min(1e-24)
            for layer, features in goal.content.items()
        }
        self.style = self.content = torch.zeros(0)

    def __call__(self, images: Tensor) -> Tensor:
        goal = self._goal
        parts = [self._part(images, tile) for tile in self._tiles]
        style, content = images.new_zeros(len(images)), images.new_zeros(len(images))
        for row, (layer, wanted) in enumerate(goal.style.items()):
            positions = sum(part.positions[row] for part in parts)
            found = torch.stack([part.products[row] for part in parts]).sum(dim=0) / positions  # (B, C, C)
            style = style + goal.layer_weights[layer] * gram_distance(found, wanted)
        for row, layer in enumerate(goal.content):
            error = torch.stack([part.errors[row] for part in parts]).sum(dim=0)
            content = content + error / self._norms[layer] / len(goal.content)
        self.style, self.content = style.detach(), content.detach()
        return -(goal.style_weight * style + goal.content_weight * content)

    def _part(self, images: Tensor, tile: Tile) -> Seen:
        """What a tile holds; computed again on the way back where there are several."""
        if len(self._tiles) == 1 or not torch.is_grad_enabled():
            return self._seen(images, tile)
        found: Seen = checkpoint(self._seen, images, tile, use_reentrant=False)  # pyright: ignore[reportAssignmentType]
        return found

    def _seen(self, images: Tensor, tile: Tile) -> Seen:
        goal = self._goal
        outputs = self._tape(images[:, :, *tile.seen], layers=goal.layers)
        kept = {layer: outputs.tap(layer)[:, :, *tile.kept[layer]] for layer in goal.layers}
        return Seen(
            [channel_products(kept[layer]) for layer in goal.style],
            [
                (kept[layer] - features[:, :, *tile.place[layer]]).square().flatten(1).sum(dim=1)
                for layer, features in goal.content.items()
            ],
            [kept[layer].shape[-2] * kept[layer].shape[-1] for layer in goal.style],
        )


def features_of(tape: Tape, images: Tensor, layers: Sequence[str], tiles: Sequence[Tile]) -> dict[str, Tensor]:
    """(B, C, h, w) by layer, without a tape; put together from tiles."""
    parts = list[dict[str, Tensor]]()
    with torch.no_grad():
        for tile in tiles:
            outputs = tape(images[:, :, *tile.seen], layers=layers)
            parts.append({layer: outputs.tap(layer)[:, :, *tile.kept[layer]] for layer in layers})
    across = len({tile.seen[1].start for tile in tiles})  # tiles of one row
    rows = [parts[start : start + across] for start in range(0, len(parts), across)]
    return {
        layer: torch.cat([torch.cat([part[layer] for part in row], dim=3) for row in rows], dim=2) for layer in layers
    }


def mixed_grams(styles: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """(1 or B, C, C) by layer: the mean Gram matrix of several styles, weighted by their shares.

    Args:
        styles: features (1 or B, C, h, w) by layer, of any size.
        shares: one per style, sum 1.
    """
    matrices = [
        {layer: share * gram(features) for layer, features in style.items()}
        for style, share in zip(styles, shares, strict=True)
    ]
    return {layer: torch.stack([one[layer] for one in matrices]).sum(dim=0) for layer in matrices[0]}
