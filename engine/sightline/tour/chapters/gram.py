"""Q9: why is the Gram matrix used for texture and style?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sightline.tour.chapter import Answer
from sightline.tour.visit import Visit
from sightline_kernels.gram.cpu import gram


class Gram:
    """What moving every feature to another place changes."""

    name = "gram"
    place = 90
    title = "Gram matrices"
    question = "Why is the Gram matrix used for texture and style?"
    claim = "It holds which features occur together, and nothing of where."
    figures: Mapping[str, str] = {
        "gram_change": "relative change of the Gram matrix when all positions are shuffled",
        "content_change": "relative change of the features themselves",
    }

    def visit(self, visit: Visit) -> Answer:
        maps = visit.maps(visit.few)
        order = np.random.default_rng(visit.seed).permutation(maps.shape[2] * maps.shape[3])
        flat = maps.reshape(*maps.shape[:2], -1)
        moved = np.ascontiguousarray(flat[:, :, order])
        before, after = (gram(np.ascontiguousarray(one)) for one in (flat, moved))
        change = float(np.linalg.norm(after - before) / max(float(np.linalg.norm(before)), 1e-30))
        content = float(np.linalg.norm(moved - flat) / max(float(np.linalg.norm(flat)), 1e-30))
        text = (
            f"When the {order.size} positions of {visit.deepest} are shuffled, its Gram matrices change by "
            f"{change:.1e} of their length and the features themselves by {content:.0%}."
        )
        figures = {"gram_change": change, "content_change": content}
        return Answer(text, figures, (), change < 1e-5 and content > 0.5)


CHAPTER = Gram()
