"""Q6: occlusion against backpropagation."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from sightline.agreement import agreement
from sightline.audit.maps import occlusion
from sightline.colour import ColourScale, overlay
from sightline.tour.chapter import Answer
from sightline.tour.visit import Visit
from sightline.types import FloatArray


class Saliency:
    """Time, noise and agreement of both."""

    name = "saliency"
    place = 60
    title = "Occlusion and backpropagation"
    question = "How do saliency by occlusion and by backpropagation compare?"
    claim = "Occlusion is intuitive and slow; backpropagation is fast and noisy."
    figures: Mapping[str, str] = {
        "occlusion_seconds": "seconds per photograph",
        "backprop_seconds": "seconds per photograph",
        "times_slower": "the first over the second",
        "occlusion_variation": "mean difference of neighbouring pixels of a map over its mean magnitude",
        "backprop_variation": "the same of the gradient's map",
        "agreement": "rank correlation of the two, mean over photographs",
    }

    def visit(self, visit: Visit) -> Answer:
        saliency, sweep = visit.method("saliency"), occlusion(visit.artefact)
        maps, seconds = dict[str, FloatArray](), dict[str, float]()
        for name, method in (("backprop", saliency), ("occlusion", sweep)):
            visit.explained(method)  # compiled and warm
            start = time.perf_counter()
            maps[name] = visit.explained(method)
            seconds[name] = (time.perf_counter() - start) / len(visit.few)
        variation = {name: float(np.mean([total_variation(one) for one in all_])) for name, all_ in maps.items()}
        pairs = zip(maps["occlusion"], maps["backprop"], strict=True)
        alike = float(np.mean([agreement(np.abs(one), np.abs(other)).spearman for one, other in pairs]))
        slower = seconds["occlusion"] / max(seconds["backprop"], 1e-9)
        text = (
            f"Occlusion (window {sweep.window}, stride {sweep.stride}) takes {seconds['occlusion']:.3g} s per "
            f"photograph, {slower:.0f} times as long as backpropagation ({seconds['backprop']:.3g} s). Neighbouring "
            f"pixels of its maps differ by {variation['occlusion']:.2f} of their mean magnitude, those of the "
            f"gradient by {variation['backprop']:.2f}. The two agree by a rank correlation of {alike:.2f}."
        )
        pictures = []
        for place, row in enumerate(visit.few[:3]):
            view = visit.artefact.view(int(row))
            cells = [view]
            for name in ("occlusion", "backprop"):
                one = maps[name][place] if name == "occlusion" else np.abs(maps[name][place])
                cells.append(
                    overlay(view, one, ColourScale.fit(one, signed=name == "occlusion", clip_percentile=99.5))
                )
            pictures.append(visit.strip(cells, f"{visit.called(int(row))}: photograph, occlusion, gradient."))
        figures = {f"{name}_seconds": value for name, value in seconds.items()}
        figures |= {f"{name}_variation": value for name, value in variation.items()}
        figures |= {"times_slower": slower, "agreement": alike}
        holds = slower > 1 and variation["backprop"] > variation["occlusion"]
        return Answer(text, figures, tuple(pictures), bool(holds))


def total_variation(map_: FloatArray) -> float:
    """Mean absolute difference of pixels beside and below each other over the mean magnitude; 0 of nothing."""
    wide = map_.astype(np.float64)
    differences = np.concatenate([np.abs(np.diff(wide, axis=axis)).ravel() for axis in (0, 1)])
    size = float(np.abs(wide).mean())
    return float(differences.mean()) / size if size > 0 else 0.0


CHAPTER = Saliency()
