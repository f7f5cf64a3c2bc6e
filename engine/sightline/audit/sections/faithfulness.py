"""Faithfulness: do the places where it looks decide, for the candidate as for the reference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sightline.audit.context import Artefact, Context
from sightline.audit.faithfulness import Curves, curves
from sightline.audit.maps import maps_of, occlusion
from sightline.audit.section import Finding, Outcome
from sightline.types import FloatArray

PHOTOGRAPHS = 8
NO_BETTER = 0.02  # lead of the map's insertion area over that of chance below which it says nothing


class Faithfulness:
    """Deletion and insertion by the occlusion maps, beside random orders and the middle first."""

    name = "faithfulness"
    place = 40
    figures: Mapping[str, str] = {
        "deletion": "area below the probability as the most important pixels are hidden; smaller is better",
        "insertion": "area below the probability as they are shown first; larger is better",
        "deletion_change": "the candidate's deletion area less the reference's",
        "insertion_change": "the candidate's insertion area less the reference's",
        "insertion_lead": "the candidate's insertion less that of a random order",
    }

    def run(self, context: Context) -> Outcome:
        rows = context.some(min(PHOTOGRAPHS, context.options.maps))
        classes = context.reference.predictions[rows]
        random = np.random.default_rng(context.options.seed)
        height, width = context.reference.model.input_size
        bell = centre(height, width)
        found: dict[str, list[Curves]] = {}
        for name, artefact in (("reference", context.reference), ("candidate", context.candidate)):
            maps = maps_of(artefact, occlusion(artefact), rows, classes, context.options.threads)
            for row, index, map_ in zip(rows, classes, maps, strict=True):
                found.setdefault(name, []).append(_curves(artefact, int(row), int(index), map_))
                if name == "candidate":
                    chance = random.random((height, width), dtype=np.float32)
                    found.setdefault("random order", []).append(_curves(artefact, int(row), int(index), chance))
                    found.setdefault("middle first", []).append(_curves(artefact, int(row), int(index), bell))
        areas = {
            name: (
                float(np.mean([one.deletion_area for one in all_])),
                float(np.mean([one.insertion_area for one in all_])),
            )
            for name, all_ in found.items()
        }
        lead = areas["candidate"][1] - areas["random order"][1]
        figures: dict[str, float | None] = {
            "deletion": areas["candidate"][0], "insertion": areas["candidate"][1],
            "deletion_change": areas["candidate"][0] - areas["reference"][0],
            "insertion_change": areas["candidate"][1] - areas["reference"][1], "insertion_lead": lead,
        }  # fmt: skip
        told = f"Showing pixels in the order of the candidate's maps is no better than at random ({lead:+.3f})."
        details = {
            "areas": {name: list(pair) for name, pair in areas.items()},
            "curves": {
                name: {
                    "deletion": np.mean([one.deletion for one in all_], axis=0).tolist(),
                    "insertion": np.mean([one.insertion for one in all_], axis=0).tolist(),
                }
                for name, all_ in found.items()
            },
        }
        return Outcome(figures, (Finding("warning", told),) if lead < NO_BETTER else (), details=details)


def centre(height: int, width: int) -> FloatArray:
    """(H, W) a bell in the middle: what a map scores that only knows where photographers put things."""
    rows, columns = (np.linspace(-1, 1, side) for side in (height, width))
    return np.exp(-2 * (rows[:, None] ** 2 + columns**2)).astype(np.float32)


def _curves(artefact: Artefact, row: int, index: int, map_: FloatArray) -> Curves:
    image = artefact.batch.tensor[row]
    fill = np.zeros_like(image)  # the mean colour

    def probability(images: FloatArray) -> FloatArray:
        return artefact.oracle.activated(artefact.oracle.logits(images))[:, index]

    return curves(probability, image, map_, fill)


SECTION = Faithfulness()
