"""Q3: what do activation maps show?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sightline.colour import ColourScale, overlay, resize_map
from sightline.tour.chapter import Answer
from sightline.tour.visit import Visit
from sightline.types import ByteArray

TOP = 0.25  # share of the picture that counts as what decides


class Activations:
    """Where the strongest unit stirs, and whether that is what decides."""

    name = "activations"
    place = 30
    title = "Activation maps"
    question = "What do activation maps show?"
    claim = "Which regions of the image a feature map answers to."
    figures: Mapping[str, str] = {
        "active_share": "share of the picture where the strongest unit stirs by half of its peak or more, median",
        "on_what_decides": "share of photographs whose strongest unit peaks in the quarter that decides",
        "chance": "what a random place would score",
    }

    def visit(self, visit: Visit) -> Answer:
        decisive = visit.occlusion_maps
        maps = visit.maps(visit.few)
        height, width = decisive.shape[1:]
        shares, hits, cells = list[float](), list[bool](), list[list[ByteArray]]()
        for row, own, map_ in zip(visit.few, maps, decisive, strict=True):
            strongest = own[int(own.max(axis=(1, 2)).argmax())]
            shares.append(float((strongest >= strongest.max() / 2).mean()))
            large = resize_map(strongest, height, width)
            peak = np.unravel_index(int(large.argmax()), large.shape)
            hits.append(bool(map_[peak] >= np.quantile(map_, 1 - TOP)))
            view = visit.artefact.view(int(row))
            scales = (ColourScale.fit(large, signed=False), ColourScale.fit(map_, signed=True, clip_percentile=99.5))
            cells.append([view, overlay(view, large, scales[0]), overlay(view, map_, scales[1])])
        pictures = [
            visit.strip(three, f"{visit.called(int(row))}: photograph, strongest unit of {visit.deepest}, occlusion.")
            for row, three in list(zip(visit.few, cells, strict=True))[:3]
        ]
        share, hit = float(np.median(shares)), float(np.mean(hits))
        text = (
            f"The strongest unit of {visit.deepest} stirs by half of its peak or more on {share:.0%} of a photograph "
            f"(median of {len(shares)}). Its peak lies in the quarter that occlusion finds decisive on {hit:.0%} of "
            f"them; a random place would on {TOP:.0%}."
        )
        figures = {"active_share": share, "on_what_decides": hit, "chance": TOP}
        return Answer(text, figures, tuple(pictures), share < 0.5 and hit > TOP)


CHAPTER = Activations()
