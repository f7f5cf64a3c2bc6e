"""Q8: which information is preserved in deep layers?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sightline.agreement import spearman
from sightline.tour.chapter import Answer
from sightline.tour.visit import Visit

PHOTOGRAPHS, LAYERS, STEPS = 2, 5, 120


class Inversion:
    """Pictures made anew from what a layer knows, deeper and deeper."""

    name = "inversion"
    place = 80
    title = "Feature inversion"
    question = "What information is preserved in deep layers?"
    claim = "Meaning rather than detail: the deeper the layer, the less of the photograph comes back."
    figures: Mapping[str, str] = {
        "first_similarity": "structural similarity of the picture made from the first layer to the photograph",
        "last_similarity": "the same of the deepest layer",
        "rank_correlation": "of depth and similarity; -1 if every deeper layer knows less",
    }

    def visit(self, visit: Visit) -> Answer:
        method = visit.method("inversion", spread=LAYERS, steps=STEPS)
        rows = visit.few[:PHOTOGRAPHS]
        made: Any = visit.model.plan(method, threads=visit.threads).run(visit.artefact.some(rows), None)
        similar = np.asarray(made.similarities).mean(axis=0)
        order = spearman(np.arange(len(similar), dtype=np.float64), similar.astype(np.float64))
        text = (
            f"Made from {made.layers[0]}, a picture is as similar to the photograph as {similar[0]:.2f} (structural "
            f"similarity); made from {made.layers[-1]}, {similar[-1]:.2f}. Depth and similarity correlate by "
            f"{order:.2f} over {len(similar)} layers."
        )
        pictures = [
            visit.strip(
                [
                    visit.artefact.view(int(row)),
                    *(np.rint(one).clip(0, 255).astype(np.uint8) for one in made.values[place]),
                ],
                f"{visit.called(int(row))}: photograph, then made from {', '.join(made.layers)}.",
            )
            for place, row in enumerate(rows)
        ]
        figures = {"first_similarity": float(similar[0]), "last_similarity": float(similar[-1])}
        if np.isfinite(order):
            figures["rank_correlation"] = order
        return Answer(text, figures, tuple(pictures), bool(similar[-1] < similar[0] and order < 0))


CHAPTER = Inversion()
