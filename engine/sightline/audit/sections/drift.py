"""Drift: does it still look at the same things."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sightline.audit.context import Context
from sightline.audit.maps import Likeness, likeness, maps_of, occlusion, randomised
from sightline.audit.other_maps import other_maps
from sightline.audit.resolution import score_steps
from sightline.audit.section import Finding, Outcome
from sightline.colour import ColourScale, overlay
from sightline.errors import SightlineError
from sightline.image import encode_webp
from sightline.methods.forward.occlusion import Occlusion
from sightline.registry import entries
from sightline.types import FloatArray, IntArray

WORST = 6  # pairs of maps that the report shows
CONTROLLED = 8  # photographs of the control
CONTROLS = (0.34, 0.67, 1.0)  # shares of the layers, from the output, whose weights are shuffled
SPAN = 1e-6  # of rank correlation between floor and control, below which there is nothing to compare with
CLEAR = 0.5  # steps of the scores that maps must spread by, as a standard deviation, to be compared
BELOW = 0.5  # how far between floor and control the maps must have drifted to be told


class Drift:
    """Occlusion maps between a noise floor and a control; RISE, Score-CAM and gradients beside them.

    The floor is the reference on another number of threads; the control the reference with shuffled weights. RISE
    draws the same masks for both, so that they differ by what the two networks say alone.
    """

    name = "drift"
    place = 30
    share = 0.36
    figures: Mapping[str, str] = {
        "occlusion_spearman": "rank correlation of the occlusion maps, mean over photographs",
        "occlusion_ssim": "structural similarity of the occlusion maps",
        "occlusion_top5": "overlap of the most important 5 % of the occlusion maps",
        "occlusion_shift": "distance of the occlusion maps' centres of mass, as a share of the diagonal",
        "saliency_spearman": "rank correlation of the gradients' maps, where both have gradients",
        "saliency_ssim": "structural similarity of the gradients' maps",
        "saliency_top5": "overlap of the most important 5 % of the gradients' maps",
        "saliency_shift": "distance of the centres of mass of the gradients' maps",
        "rise_spearman": "rank correlation of the RISE maps, with the same masks on both",
        "rise_ssim": "structural similarity of the RISE maps",
        "rise_top5": "overlap of the most important 5 % of the RISE maps",
        "rise_shift": "distance of the RISE maps' centres of mass, as a share of the diagonal",
        "rise_floor_spearman": "noise of so few masks: the reference's RISE maps with other masks",
        "score_cam_spearman": "rank correlation of the Score-CAM maps of the last layer that both have",
        "score_cam_ssim": "structural similarity of the Score-CAM maps",
        "score_cam_top5": "overlap of the most important 5 % of the Score-CAM maps",
        "score_cam_shift": "distance of the Score-CAM maps' centres of mass",
        "floor_spearman": "noise floor: the reference's occlusion maps on another number of threads",
        "control_spearman": "control: those of the reference with all weights shuffled",
        "drifted": "0 at the noise floor, 1 at the control: where the rank correlation lies, on the same photographs",
    }

    def run(self, context: Context) -> Outcome:
        ours, theirs, threads = context.reference, context.candidate, context.options.threads
        rows = context.some(context.options.maps)
        classes = ours.predictions[rows]
        method = occlusion(ours)
        pair = [maps_of(one, occlusion(one), rows, classes, threads) for one in (ours, theirs)]
        clear, unclear = _clear(context, pair[0], rows, classes)
        seen = clear if len(clear) else np.arange(len(rows))  # the reference's own figures need some
        alike = likeness(*pair)
        figures: dict[str, float | None] = dict.fromkeys(self.figures, None)
        figures |= alike.some(clear).means("occlusion")
        few = seen[np.unique(np.linspace(0, len(seen) - 1, min(CONTROLLED, len(seen))).astype(np.int64))]
        _release(context)
        floor = likeness(pair[0][few], maps_of(ours, method, rows[few], classes[few], 1 if threads != 1 else 2))
        _release(context)
        quiet = float(floor.spearman.mean())
        controls = self._controls(context, method, pair[0][few], rows[few], classes[few])
        span = quiet - controls[-1]
        moved = quiet - float(alike.spearman[few].mean())
        drifted = float(np.clip(moved / span, 0, 1)) if span > SPAN and len(clear) else None
        figures |= {"floor_spearman": quiet, "control_spearman": controls[-1], "drifted": drifted}
        found, gradients = unclear, self._gradients(context, rows, classes)
        if isinstance(gradients, Finding):
            found.append(gradients)
        else:
            figures |= gradients.means("saliency")
        others, notes = other_maps(context, rows, classes)
        figures |= others
        found += notes
        if span <= SPAN:
            text = "Maps of shuffled weights are no farther from the reference's than noise: drift has no scale here."
            found.append(Finding("note", text))
        elif drifted is not None and drifted > BELOW:
            found.append(Finding("fault", _told(drifted)))
        details = {
            "window": [method.window, method.stride],
            "controls": [[share, value] for share, value in zip(CONTROLS, controls, strict=True)],
            "spearman": [float(one) for one in alike.spearman[clear]],
            "worst": self._pictures(
                context, [one[clear] for one in pair], alike.some(clear), rows[clear], classes[clear]
            ),
        }
        by_class = {"occlusion_spearman": _by_class(context, classes[clear], alike.spearman[clear])}
        return Outcome(figures, tuple(found), by_class, details)

    def _controls(
        self, context: Context, method: Occlusion, maps: FloatArray, rows: IntArray, classes: IntArray
    ) -> list[float]:
        found = list[float]()
        for share in CONTROLS:
            shuffled = randomised(context.reference, share)
            other = maps_of(shuffled, method, rows, classes, context.options.threads)
            found.append(float(likeness(maps, other).spearman.mean()))
            shuffled.model.close()
        return found

    def _gradients(self, context: Context, rows: IntArray, classes: IntArray) -> Likeness | Finding:
        """Likeness of the gradients' maps, or why there are none."""
        saliency: Any = entries()["saliency"].load()()
        maps = list[FloatArray]()
        for artefact in (context.reference, context.candidate):
            try:
                maps.append(maps_of(artefact, saliency, rows, classes, context.options.threads))
            except SightlineError as reason:
                why = str(reason).splitlines()[0]
                return Finding("note", f"Gradients were not compared: {artefact.model.path.name}: {why}")
        return likeness(*maps)

    def _pictures(
        self, context: Context, pair: list[FloatArray], alike: Likeness, rows: IntArray, classes: IntArray
    ) -> list[dict[str, Any]]:
        """The photographs whose maps agree least, with both maps as files."""
        shown = list[dict[str, Any]]()
        for number, place in enumerate(np.argsort(alike.spearman, kind="stable")[:WORST]):
            row = int(rows[place])
            view = context.reference.view(row)
            files = {"photo": view} | {
                name: overlay(view, one[place], ColourScale.fit(one[place], signed=True, clip_percentile=99.5))
                for name, one in zip(("reference", "candidate"), pair, strict=True)
            }
            names = {name: f"drift_{number}_{name}.webp" for name in files}
            for name, pixels in files.items():
                (context.folder / names[name]).write_bytes(encode_webp(pixels))
            shown.append({
                "id": context.reference.inputs[row].id, "class": context.of_class(int(classes[place])),
                "says": context.of_decision(int(context.candidate.decisions[row])),
                "spearman": float(alike.spearman[place]), "files": names,
            })  # fmt: skip
        return shown


def _clear(context: Context, maps: FloatArray, rows: IntArray, classes: IntArray) -> tuple[IntArray, list[Finding]]:
    """Places of the photographs whose maps stand above what scores are rounded to, and what to say of the others.

    Of a perfect copy whose scores are only rounded to steps, maps of the spread that is asked for (``CLEAR`` steps)
    would have a rank correlation of 0.87, so that less says nothing about where the candidate looks.
    """
    both = (context.reference, context.candidate)
    steps = [score_steps(one.model, one.logits[rows, classes]) for one in both]
    coarser = np.maximum(*steps)
    spread = maps.astype(np.float64).std(axis=(1, 2))
    hidden = np.flatnonzero(spread < CLEAR * coarser)
    clear = np.flatnonzero(spread >= CLEAR * coarser)
    if not len(hidden):
        return clear, []
    whose = "the candidate's" if np.median((steps[1] - steps[0])[hidden]) > 0 else "the reference's"
    text = (
        f"Occlusion maps of {len(hidden)} of {len(rows)} photographs were not compared: hiding windows moves the "
        f"reference's scores by {np.median(spread[hidden]):.2g} only, and {whose} come in steps of "
        f"{np.median(coarser[hidden]):.2g}. What is left is rounding."
    )
    return clear, [Finding("warning", text)]


def _release(context: Context) -> None:
    """Close what was opened: the next network takes its memory."""
    for artefact in (context.reference, context.candidate):
        artefact.model.close()


def _told(drifted: float) -> str:
    return f"It looks elsewhere: {drifted:.0%} of the way from the noise floor to shuffled weights."


def _by_class(context: Context, classes: IntArray, values: FloatArray) -> dict[str, float]:
    return {context.of_class(int(one)): float(values[classes == one].mean()) for one in np.unique(classes)}


SECTION = Drift()
