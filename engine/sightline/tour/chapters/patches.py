"""Q5: what are maximally activating patches for?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sightline.errors import UsageError
from sightline.tour.chapter import Answer
from sightline.tour.visit import Visit
from sightline.types import ByteArray
from sightline.units.patches import crop, window_of

STRONGEST = 6  # photographs of a unit
UNITS = 4  # shown


class Patches:
    """Do the photographs that excite a unit most show one thing?"""

    name = "patches"
    place = 50
    title = "Maximally activating patches"
    question = "What is the purpose of maximally activating patches?"
    claim = "To see which pattern a unit answers to most strongly."
    figures: Mapping[str, str] = {
        "alike": "likeness of two of a unit's strongest photographs: the share of one label, "
        "or the correlation of the network's class scores where labels are not known",
        "chance": "the same of two photographs drawn at random",
        "units": "units that stir at all",
    }

    def visit(self, visit: Visit) -> Answer:
        if len(visit) < 2 * STRONGEST:
            raise UsageError(f"{len(visit)} photographs are too few; {2 * STRONGEST} are needed.")
        highest, places = visit.peaks
        alive = np.flatnonzero(highest.max(axis=0) > highest.min(axis=0))
        order = np.argsort(-highest, axis=0, kind="stable")[:STRONGEST]  # (6, C)
        first, second = np.triu_indices(STRONGEST, 1)  # the 15 pairs of them
        alike = visit.likeness(order[first][:, alive], order[second][:, alive]).mean(axis=0)  # (units,)
        mean = float(alike.mean()) if len(alive) else 0.0
        text = (
            f"Of two of the {STRONGEST} photographs that excite a unit of {visit.deepest} most, {visit.alike(mean)}, "
            f"the mean over {len(alive)} units; of two drawn at random, {visit.alike(visit.chance, short=True)}."
        )
        best = alive[np.argsort(-alike, kind="stable")[:UNITS]]
        pictures = [
            visit.strip(
                [self._patch(visit, int(row), int(places[row, unit])) for row in order[:, unit]],
                f"Unit {unit}: the {STRONGEST} patches that excite it most.",
            )
            for unit in best
        ]
        figures = {"alike": mean, "chance": visit.chance, "units": float(len(alive))}
        return Answer(text, figures, tuple(pictures), mean > visit.chance)

    def _patch(self, visit: Visit, row: int, place: int) -> ByteArray:
        view, layer = visit.artefact.view(row), visit.model.layers.find(visit.model.layers.resolve(visit.deepest))
        across = layer.shape[3]
        return crop(view, window_of(layer.field, place // across, place % across, view.shape[:2]))


CHAPTER = Patches()
