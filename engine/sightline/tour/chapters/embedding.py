"""Q4: why is t-SNE preferred over PCA for pictures of a data set?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from sightline.bank.projection import Projection, pca, tsne
from sightline.errors import UsageError
from sightline.tour.chapter import Answer, Picture
from sightline.tour.visit import Visit
from sightline.types import ByteArray, FloatArray

FEWEST = 30  # photographs
SIDE, THUMB = 480, 28  # pixels of the scatter and of a photograph on it


class Embedding:
    """Both, by what they keep and by what they cost."""

    name = "embedding"
    place = 40
    title = "PCA and t-SNE"
    question = "Why is t-SNE preferred over PCA for visualisation?"
    claim = "It keeps clusters and local structure, and takes longer; PCA is global and fast."
    figures: Mapping[str, str] = {
        "pca_trustworthiness": "that neighbours in the picture are neighbours in the features, 0 to 1",
        "tsne_trustworthiness": "the same of t-SNE",
        "pca_preserved": "share of the nearest neighbours in the features that are so in the picture",
        "tsne_preserved": "the same of t-SNE",
        "pca_explained": "share of the variance in the plane of the two largest components",
        "times_slower": "seconds of t-SNE over those of PCA",
    }

    def visit(self, visit: Visit) -> Answer:
        if len(visit) < FEWEST:
            raise UsageError(f"{len(visit)} photographs are too few for a picture of them; {FEWEST} are needed.")
        pca([visit.features])  # libraries are read in before anything is timed
        found, seconds = dict[str, Projection](), dict[str, float]()
        ways: dict[str, tuple[Any, dict[str, Any]]] = {
            "pca": (pca, {}), "tsne": (tsne, {"threads": visit.threads, "seed": visit.seed}),
        }  # fmt: skip
        for name, (make, options) in ways.items():
            start = time.perf_counter()
            found[name] = make([visit.features], **options)
            seconds[name] = time.perf_counter() - start
        explained = sum(found["pca"].explained)
        slower = seconds["tsne"] / max(seconds["pca"], 1e-9)
        text = (
            f"In the plane of the two largest components, {found['pca'].preserved:.0%} of the {found['pca'].k} "
            f"nearest neighbours stay (trustworthiness {found['pca'].trustworthiness:.2f}, {explained:.0%} of the "
            f"variance). t-SNE keeps {found['tsne'].preserved:.0%} ({found['tsne'].trustworthiness:.2f}) "
            f"and takes {slower:.0f} times as long: {seconds['tsne']:.1f} s for {len(visit)} photographs."
        )
        pictures = [
            Picture(_scatter(visit, one.coordinates), f"The photographs where {title} puts them.")
            for one, title in ((found["pca"], "PCA"), (found["tsne"], "t-SNE"))
        ]
        figures = {
            f"{name}_{what}": getattr(one, what)
            for name, one in found.items()
            for what in ("trustworthiness", "preserved")
        }
        figures |= {"pca_explained": explained, "times_slower": slower}
        holds = found["tsne"].preserved > found["pca"].preserved and slower > 1
        return Answer(text, figures, tuple(pictures), bool(holds))


def _scatter(visit: Visit, places: FloatArray) -> ByteArray:
    """Thumbnails at their places, framed in a colour of their kind."""
    low, high = places.min(axis=0), places.max(axis=0)
    spread = (places - low) / np.maximum(high - low, 1e-9) * (SIDE - THUMB)
    canvas = Image.new("RGB", (SIDE, SIDE), (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    kinds = np.unique(visit.groups, return_inverse=True)[1]
    for row, (x, y) in enumerate(spread):
        thumb = Image.fromarray(visit.artefact.view(row)).resize((THUMB, THUMB), Image.Resampling.BOX)
        corner = (int(x), int(y))
        canvas.paste(thumb, corner)
        hue = int(kinds[row] * 360 / (kinds.max() + 1))
        draw.rectangle(
            (*corner, corner[0] + THUMB - 1, corner[1] + THUMB - 1), outline=f"hsl({hue}, 75%, 45%)", width=2
        )
    return np.asarray(canvas)


CHAPTER = Embedding()
