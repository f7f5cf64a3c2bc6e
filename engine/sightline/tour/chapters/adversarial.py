"""Q7: which problem do adversarial examples reveal?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sightline.adversarial.examples import AdversarialExamples
from sightline.errors import UsageError
from sightline.target import logit
from sightline.tour.chapter import Answer
from sightline.tour.visit import Visit


class Adversarial:
    """The smallest change towards a random class that survives 8 bits and PNG."""

    name = "adversarial"
    place = 70
    title = "Adversarial examples"
    question = "What problem do adversarial examples reveal?"
    claim = "Networks can be fooled by changes that nobody sees."
    figures: Mapping[str, str] = {
        "fooled": "share of photographs that reach a random class, read back from PNG on ONNX Runtime",
        "change": "length of the change over that of the photograph, median",
        "largest": "largest change of a pixel value of 0 to 255, median",
    }

    def visit(self, visit: Visit) -> Answer:
        random = np.random.default_rng(visit.seed)
        rows, count = visit.few, visit.model.class_count
        if count < 2:
            raise UsageError("A network with one score has no other class to be fooled towards.")
        own = visit.artefact.predictions[rows]
        aims = (own + random.integers(1, count, len(rows))) % count
        plan = visit.model.plan(visit.method("fool"), threads=visit.threads)
        made = plan.run(visit.artefact.some(rows), logit(tuple(int(one) for one in aims)))
        assert isinstance(made, AdversarialExamples)
        fooled = np.asarray(made.fooled)
        change = float(np.median(np.asarray(made.share)[fooled])) if fooled.any() else float("nan")
        largest = float(np.median(np.asarray(made.linf)[fooled])) if fooled.any() else float("nan")
        text = (
            f"{fooled.mean():.0%} of {len(rows)} photographs are taken for a class drawn at random, after a change "
            f"of {change:.2%} of their length; no pixel value changes by more than {largest:.0f} of 255 (medians)."
        )
        pictures = []
        for place in np.flatnonzero(fooled)[:3]:
            before, after = made.originals[place], made.values[place]
            moved = after.astype(np.int64) - before
            factor = 127 / max(int(np.abs(moved).max()), 1)
            shown = np.clip(128 + factor * moved, 0, 255).astype(np.uint8)
            reached = visit.labels[int(aims[place])] if int(aims[place]) < len(visit.labels) else str(aims[place])
            caption = (
                f"{visit.called(int(rows[place]))}; the change, {factor:.0f} times as strong; taken for {reached}."
            )
            pictures.append(visit.strip([before, shown, after], caption))
        figures = {"fooled": float(fooled.mean()), "change": change, "largest": largest}
        known = {name: value for name, value in figures.items() if np.isfinite(value)}
        return Answer(text, known, tuple(pictures), bool(fooled.mean() > 0.5 and change < 0.05))


CHAPTER = Adversarial()
