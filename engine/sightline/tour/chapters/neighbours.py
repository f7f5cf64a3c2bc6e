"""Q2: what is the difference between neighbours in pixel space and in feature space?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

from sightline.bank.search import nearest_others
from sightline.errors import UsageError
from sightline.tour.chapter import Answer
from sightline.tour.visit import Visit
from sightline.types import FloatArray

K = 8
PIXELS = 32  # side of the pictures whose pixels are compared
QUERIES, SHOWN = 3, 5


class Neighbours:
    """Do the nearest photographs show the same thing, by pixels and by features?"""

    name = "neighbours"
    place = 20
    title = "Neighbours"
    question = "What is the difference between nearest neighbours in pixel space and in feature space?"
    claim = "Pixels compare colours and layout; features compare meaning."
    figures: Mapping[str, str] = {
        "pixel_purity": "likeness of a photograph and its nearest by pixels: the share of one label, "
        "or the correlation of the network's class scores where labels are not known",
        "feature_purity": "the same by features of the last layer with positions",
        "chance": "the same of two photographs drawn at random",
    }

    def visit(self, visit: Visit) -> Answer:
        if len(visit) < K + 2:
            raise UsageError(f"{len(visit)} photographs are too few; {K + 2} are needed.")
        spaces = {"pixels": self._pixels(visit), "features": visit.features}
        near = {name: nearest_others([values], k=K, threads=visit.threads).rows for name, values in spaces.items()}
        asked = np.arange(len(visit))[:, None]
        purity = {name: float(visit.likeness(asked, found).mean()) for name, found in near.items()}
        by_features, by_chance = (visit.alike(one, short=True) for one in (purity["features"], visit.chance))
        text = (
            f"Of a photograph and its {K} nearest, {visit.alike(purity['pixels'])} in the space of pixels, and "
            f"{by_features} in the space of {visit.deepest}; of two drawn at random, {by_chance}."
        )
        pictures = [
            visit.strip(
                [visit.artefact.view(int(row)) for row in (query, *near[name][query, :SHOWN])],
                f"{visit.artefact.inputs[int(query)].id}, then its nearest by {name}.",
            )
            for query in visit.few[:QUERIES]
            for name in near
        ]
        figures = {"pixel_purity": purity["pixels"], "feature_purity": purity["features"], "chance": visit.chance}
        return Answer(text, figures, tuple(pictures), purity["features"] > purity["pixels"])

    def _pixels(self, visit: Visit) -> FloatArray:
        rows = list[FloatArray]()
        for row in range(len(visit)):
            small = Image.fromarray(visit.artefact.view(row)).resize((PIXELS, PIXELS), Image.Resampling.BOX)
            rows.append(np.asarray(small, np.float32).ravel())
        return np.stack(rows)


CHAPTER = Neighbours()
