"""Maps beside those of occlusion: RISE and Score-CAM on both artefacts."""

from __future__ import annotations

import numpy as np

from sightline.audit.context import Artefact, Context
from sightline.audit.layers import matched, settled
from sightline.audit.maps import likeness, maps_of
from sightline.audit.section import Finding
from sightline.errors import SightlineError, UsageError
from sightline.methods.forward.rise import Rise
from sightline.methods.forward.score_cam import ScoreCam
from sightline.target import top
from sightline.types import IntArray

FEW = 12  # photographs: a map of RISE costs as many passes as it has masks
AGAIN = 4  # of them that are explained with other masks
CHANNELS = 64  # of Score-CAM, those that vary most

Figures = dict[str, float | None]


def other_maps(context: Context, rows: IntArray, classes: IntArray) -> tuple[Figures, list[Finding]]:
    """Likeness of the maps of every method that was asked for, on the first of the photographs, spread evenly."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(FEW, len(rows))).astype(np.int64))
    ways = {"rise": _rise, "score_cam": _score_cam}
    figures, notes = Figures(), list[Finding]()
    for name in context.options.maps_by:
        try:
            figures |= ways[name](context, rows[chosen], classes[chosen])
        except SightlineError as reason:
            notes.append(Finding("note", f"Maps of {name} were not compared: {str(reason).splitlines()[0]}"))
    return figures, notes


def _rise(context: Context, rows: IntArray, classes: IntArray) -> Figures:
    options = context.options
    method, other = (Rise(masks=options.rise_masks, seed=options.seed + more) for more in (0, 1))
    ours, theirs = (
        maps_of(one, method, rows, classes, options.threads) for one in (context.reference, context.candidate)
    )
    again = maps_of(context.reference, other, rows[:AGAIN], classes[:AGAIN], options.threads)
    figures: Figures = {"rise_floor_spearman": float(likeness(ours[:AGAIN], again).spearman.mean())}
    return figures | dict(likeness(ours, theirs).means("rise"))


def _score_cam(context: Context, rows: IntArray, classes: IntArray) -> Figures:
    layers = _counterparts(context.reference, context.candidate)
    ours, theirs = (
        maps_of(one, ScoreCam(layer=layer, channels=CHANNELS), rows, classes, context.options.threads)
        for one, layer in zip((context.reference, context.candidate), layers, strict=True)
    )
    return dict(likeness(ours, theirs).means("score_cam"))


def _counterparts(reference: Artefact, candidate: Artefact) -> tuple[str, str]:
    """The last layer with maps that both have, by each one's name of it."""
    wanted = reference.model.layers.resolve(reference.model.feature_layer(top(1)))
    pairs, _ = matched(reference.model, candidate.model)
    order = {layer.name: place for place, layer in enumerate(reference.model.layers)}
    found = [
        (one, other) for one, other in pairs if one.name in reference.model.maps and order[one.name] <= order[wanted]
    ]
    if not found:
        raise UsageError("no layer with maps is in both.")
    one, other = found[-1]
    return settled(reference.model, one.name), settled(candidate.model, other.name)
