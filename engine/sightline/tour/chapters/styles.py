"""Q10: why is style transfer slow, and what makes it fast?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from sightline.routes.base import Settings
from sightline.styles.one_pass import one_pass
from sightline.styles.style import Style
from sightline.styles.stylist import Stylist
from sightline.tour.chapter import Answer
from sightline.tour.visit import Visit

STEPS, PASSES = 100, 10


class Styles:
    """A photograph painted by descent, and by one pass of a network that was trained for the style."""

    name = "styles"
    place = 100
    title = "Style transfer, slow and fast"
    question = "Why is style transfer slow, and what makes it fast?"
    claim = "Every step of the descent runs the network forwards and backwards; a trained network paints in one pass."
    figures: Mapping[str, str] = {
        "seconds_slow": f"seconds that {STEPS} steps of descent take",
        "seconds_fast": "seconds of one pass of the style network, median",
        "times_faster": "the one over the other",
        "style_before": "style loss of the photograph, the share of the style's Gram matrices that is missed",
        "style_slow": "the same of the slow painting",
        "style_fast": "the same of the fast painting",
    }

    def visit(self, visit: Visit) -> Answer:
        batch = visit.artefact.some(visit.few[:1])
        method: Any = visit.method("style_transfer", steps=STEPS)
        plan = visit.model.plan(method, threads=visit.threads)
        start = time.perf_counter()
        slow: Any = plan.run(batch, None)
        slow_seconds = time.perf_counter() - start
        stylist = Stylist(Style.read("demo"), Settings(threads=visit.threads))
        shown = visit.model.preprocess.to_pixels(batch.tensor)
        oracle: Any = visit.model.oracle(plan)
        fast = one_pass(stylist, shown, method, oracle, batch)
        times = list[float]()
        for _ in range(PASSES):
            start = time.perf_counter()
            stylist.paint(list(shown))
            times.append(time.perf_counter() - start)
        fast_seconds = float(np.median(times))
        factor = slow_seconds / fast_seconds
        text = (
            f"{STEPS} steps of descent took {slow_seconds:.1f} s and lowered the style loss from "
            f"{slow.style_before[0]:.2g} to {slow.style_after[0]:.2g}. One pass of the style in the box, trained "
            f"beforehand on another network, took {1000 * fast_seconds:.0f} ms, {factor:,.0f} times less, and "
            f"reaches {fast.style_after[0]:.2g} as this network sees it."
        )
        cells = [visit.artefact.view(int(visit.few[0])), slow.pictures[0], fast.pictures[0]]
        figures = {
            "seconds_slow": slow_seconds, "seconds_fast": fast_seconds, "times_faster": factor,
            "style_before": float(slow.style_before[0]), "style_slow": float(slow.style_after[0]),
            "style_fast": float(fast.style_after[0]),
        }  # fmt: skip
        return Answer(text, figures, (visit.strip(cells, "Photograph, slow, fast."),), factor > 10)


CHAPTER = Styles()
