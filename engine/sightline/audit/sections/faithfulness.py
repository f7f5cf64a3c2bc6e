"""Faithfulness: do the places where it looks decide, for the candidate as for the reference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sightline.audit.context import Artefact, Context
from sightline.audit.faithfulness import (
    Curves,
    correlation,
    curves,
    falls,
    infidelity_of,
    max_sensitivity,
    said_of,
    squares,
)
from sightline.audit.maps import explained, maps_of, occlusion
from sightline.audit.section import Finding, Outcome
from sightline.types import Batch, FloatArray

PHOTOGRAPHS = 8
PARTS = 64  # hidden from each photograph for sensitivity-n and infidelity
MOVED = 3  # noisy copies of each photograph for max-sensitivity
RADIUS = 0.02  # largest noise in a number of the reference's input; a fiftieth of a usual standard deviation
NO_BETTER = 0.02  # lead of the map's insertion area over that of chance below which it says nothing


class Faithfulness:
    """Deletion and insertion by the occlusion maps, beside random orders and the middle first."""

    name = "faithfulness"
    place = 40
    share = 0.35
    figures: Mapping[str, str] = {
        "deletion": "area below the probability as the most important pixels are hidden; smaller is better",
        "insertion": "area below the probability as they are shown first; larger is better",
        "deletion_change": "the candidate's deletion area less the reference's",
        "insertion_change": "the candidate's insertion area less the reference's",
        "sensitivity_n": "correlation of what maps say of hidden parts with the fall of the score; 1 is best",
        "sensitivity_n_change": "the candidate's sensitivity-n less the reference's",
        "infidelity": "mean square of what maps say of hidden parts, scaled to fit, less the score's fall; 0 is best",
        "infidelity_change": "the candidate's infidelity less the reference's",
        "max_sensitivity": "largest relative change of a map under noise that nobody sees; smaller is better",
        "max_sensitivity_change": "the candidate's max-sensitivity less the reference's",
        "insertion_lead": "the candidate's insertion less that of a random order",
    }

    def run(self, context: Context) -> Outcome:
        rows = context.some(min(PHOTOGRAPHS, context.options.maps))
        classes = context.reference.predictions[rows]
        random = np.random.default_rng(context.options.seed)
        height, width = context.reference.model.input_size
        bell = centre(height, width)
        found: dict[str, list[Curves]] = {}
        parts = squares(height, width, PARTS, context.options.seed)
        agreeing, missing, moving = dict[str, float](), dict[str, float](), dict[str, float]()
        for name, artefact in (("reference", context.reference), ("candidate", context.candidate)):
            maps = maps_of(artefact, occlusion(artefact), rows, classes, context.options.threads)
            for row, index, map_ in zip(rows, classes, maps, strict=True):
                found.setdefault(name, []).append(_curves(artefact, int(row), int(index), map_))
                if name == "candidate":
                    chance = random.random((height, width), dtype=np.float32)
                    found.setdefault("random order", []).append(_curves(artefact, int(row), int(index), chance))
                    found.setdefault("middle first", []).append(_curves(artefact, int(row), int(index), bell))
            places = [(int(row), int(index)) for row, index in zip(rows, classes, strict=True)]
            pairs = [
                (said_of(map_, parts), _falls(artefact, *one, parts)) for one, map_ in zip(places, maps, strict=True)
            ]
            agreeing[name] = float(np.mean([correlation(*pair) for pair in pairs]))
            missing[name] = float(np.mean([infidelity_of(*pair) for pair in pairs]))
            moving[name] = float(np.mean([_moved(artefact, *one, context) for one in places]))
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
            "sensitivity_n": agreeing["candidate"],
            "sensitivity_n_change": agreeing["candidate"] - agreeing["reference"],
            "infidelity": missing["candidate"], "infidelity_change": missing["candidate"] - missing["reference"],
            "max_sensitivity": moving["candidate"],
            "max_sensitivity_change": moving["candidate"] - moving["reference"],
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
    image = artefact.some(np.array([row])).tensor[0]

    def probability(images: FloatArray) -> FloatArray:
        return artefact.oracle.activated(artefact.oracle.logits(images))[:, index]

    return curves(probability, image, map_, _hidden(artefact, image))


def _hidden(artefact: Artefact, image: FloatArray) -> FloatArray:
    """(C, H, W) an image of which nothing is seen: the mean colour."""
    return np.broadcast_to(artefact.grey[:, None, None], image.shape)


def _falls(artefact: Artefact, row: int, index: int, parts: NDArray[np.bool_]) -> NDArray[np.float64]:
    image = artefact.some(np.array([row])).tensor[0]

    def score(images: FloatArray) -> FloatArray:
        return artefact.oracle.logits(images)[:, index]

    return falls(score, image, _hidden(artefact, image), parts)


def _moved(artefact: Artefact, row: int, index: int, context: Context) -> float:
    method, threads = occlusion(artefact), context.options.threads
    photo = artefact.some(np.array([row]))

    def explain(images: FloatArray) -> FloatArray:
        return explained(artefact, method, Batch(images, photo.photos * len(images)), [index] * len(images), threads)

    radius = artefact.step(RADIUS)
    return max_sensitivity(explain, photo.tensor[0], radius=radius, count=MOVED, seed=context.options.seed)


SECTION = Faithfulness()
