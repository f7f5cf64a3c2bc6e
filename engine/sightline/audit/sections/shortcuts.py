"""Shortcuts: does a mark, a frame or a border decide, and did units die on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.audit.clusters import FEWEST, GRID, Cluster, clusters, small, suspicious
from sightline.audit.context import Context
from sightline.audit.duplicates import firsts
from sightline.audit.layers import matched, settled
from sightline.audit.maps import maps_of, occlusion
from sightline.audit.section import Finding, Outcome
from sightline.colour import ColourScale, overlay
from sightline.errors import UsageError
from sightline.image import encode_webp, find_images
from sightline.types import FloatArray, IntArray

CLASSES, EACH = 16, 16  # classes whose maps are clustered, and photographs of each
SHOWN = 3  # photographs of a suspicious cluster
NAMED = 3  # groups of photographs that repeat one another
PROBED = 12  # photographs on which units must stir
FAINT = 0.02  # of the largest value in a layer: what stirs less is not missed
RECTIFIED = ("Relu", "Clip", "LeakyRelu", "HardSwish")


class Shortcuts:
    """Attribution at borders and corners, clusters of a class's heatmaps, dead units."""

    name = "shortcuts"
    place = 60
    share = 0.10
    figures: Mapping[str, str] = {
        "border_mass": "share of the positive attribution within a tenth of the side from the border",
        "border_mass_change": "the candidate's border mass less the reference's",
        "corner_mass": "share of it in the four corners of that frame",
        "mask_mass": "share of it on the masks that were given",
        "mask_mass_change": "the candidate's share on the masks less the reference's",
        "suspicious_clusters": "clusters of a class's maps that all point to one place at the border",
        "clustered_classes": "classes with photographs enough to be clustered",
        "repeated_photographs": "photographs that nearly repeat another of their class, and count as one with it",
        "dead_units": "units that stir for no photograph in the candidate and for some in the reference",
        "saturated_units": "units at their largest value in most places in the candidate and not in the reference",
    }

    def run(self, context: Context) -> Outcome:
        rows, classes = _rows_by_class(context)
        threads, methods = context.options.threads, [occlusion(one) for one in (context.reference, context.candidate)]
        looked = context.explained(classes)
        theirs = maps_of(context.candidate, methods[1], rows, looked, threads)
        few = np.arange(len(rows))[:: max(1, len(rows) // context.options.maps)]
        ours = maps_of(context.reference, methods[0], rows[few], looked[few], threads)
        border, corner = masses(theirs, context.options.border)
        before, _ = masses(ours, context.options.border)
        found, shown, clustered, repeated = list[Finding](), list[dict[str, Any]](), 0, 0
        shrunk = small(theirs)
        for index in np.unique(classes):
            of_class = np.flatnonzero(classes == index)
            first = firsts([context.candidate.view(int(row)) for row in rows[of_class]])
            own = of_class[first == np.arange(len(first))]
            repeated += len(of_class) - len(own)
            if len(own) < len(of_class):
                label = context.of_decision(int(index))
                found.append(Finding("note", _repeats(context, label, rows[of_class], first)))
            parts = clusters(theirs[own])
            clustered += bool(parts)
            for part in parts:
                if suspicious(part, shrunk[classes != index]):
                    label = context.of_decision(int(index))
                    found.append(Finding("fault", _told(label, part, len(own))))
                    shown.append(self._pictures(context, label, part, rows[own], theirs[own], len(shown)))
        units = _units(context)
        if units is None:
            found.append(Finding("note", "Both share no layer whose units can die: none was looked at."))
        elif units.names:
            told = f"{units.dead} units died and {units.saturated} are saturated: {', '.join(units.names[:8])}."
            found.append(Finding("warning", told))
        if not clustered:
            found.append(Finding("note", f"No class has {FEWEST} photographs: heatmaps were not clustered."))
        figures: dict[str, float | None] = {
            "border_mass": float(border.mean()), "border_mass_change": float(border[few].mean() - before.mean()),
            "corner_mass": float(corner.mean()), "suspicious_clusters": float(len(shown)) if clustered else None,
            "clustered_classes": float(clustered), "repeated_photographs": float(repeated),
            "dead_units": None, "saturated_units": None,
        }  # fmt: skip
        if units is not None:
            figures |= {"dead_units": float(units.dead), "saturated_units": float(units.saturated)}
        figures |= _on_masks(context, rows, theirs, few, ours)
        by_class = {
            "border_mass": {
                context.of_decision(int(one)): float(border[classes == one].mean()) for one in np.unique(classes)
            }
        }
        details = {"clusters": shown, "units": [] if units is None else units.names}
        return Outcome(figures, tuple(found), by_class, details)

    def _pictures(
        self, context: Context, label: str, part: Cluster, rows: IntArray, maps: FloatArray, number: int
    ) -> dict[str, Any]:
        """Some photographs of a cluster with their maps, as files."""
        files = list[str]()
        for nth, place in enumerate(part.rows[:SHOWN]):
            view = context.candidate.view(int(rows[place]))
            scale = ColourScale.fit(maps[place], signed=True, clip_percentile=99.5)
            for name, pixels in (("photo", view), ("map", overlay(view, maps[place], scale))):
                files.append(f"shortcut_{number}_{nth}_{name}.webp")
                (context.folder / files[-1]).write_bytes(encode_webp(pixels))
        return {
            "class": label, "photographs": len(part.rows), "cell": list(part.cell), "share": part.share,
            "mass": part.mass, "mean": part.mean.tolist(), "files": files,
        }  # fmt: skip


def masses(maps: FloatArray, border: float) -> tuple[FloatArray, FloatArray]:
    """(B,) shares of the positive values (B, H, W) in a frame along the border, and in its corners; 0 of none."""
    height, width = maps.shape[1:]
    depth = max(1, round(border * height)), max(1, round(border * width))
    rows, columns = np.ones(height, np.bool_), np.ones(width, np.bool_)
    rows[depth[0] : height - depth[0]] = False
    columns[depth[1] : width - depth[1]] = False
    positive = np.maximum(maps, 0).astype(np.float64)
    total = np.maximum(positive.sum(axis=(1, 2)), 1e-30)
    frame, corner = rows[:, None] | columns, rows[:, None] & columns
    shares = [(positive[:, part].sum(axis=1) / total).astype(np.float32) for part in (frame, corner)]
    return shares[0], shares[1]


def _on_masks(
    context: Context, rows: IntArray, theirs: FloatArray, few: IntArray, ours: FloatArray
) -> dict[str, float | None]:
    """Shares of the positive attribution on the masks that were given, where there are any."""
    if not context.options.masks:
        return {"mask_mass": None, "mask_mass_change": None}
    known = masks(Path(context.options.masks), [context.candidate.inputs[row].id for row in rows])
    shares = [_share(map_, context.candidate.mask(one)) for map_, one in zip(theirs, known, strict=True)]
    before = [_share(map_, context.reference.mask(known[place])) for map_, place in zip(ours, few, strict=True)]
    now = [shares[place] for place in few]
    return {"mask_mass": float(np.mean(shares)), "mask_mass_change": float(np.mean(now) - np.mean(before))}


def _share(map_: FloatArray, mask: NDArray[np.bool_]) -> float:
    positive = np.maximum(map_, 0).astype(np.float64)
    return float(positive[mask].sum() / max(positive.sum(), 1e-30))


def masks(folder: Path, ids: Sequence[str]) -> list[Path]:
    """The picture of each id below a folder: same name, any suffix of an image.

    Raises:
        UsageError: one has none.
    """
    known = {path.relative_to(folder).with_suffix("").as_posix(): path for path in find_images([folder])}
    found = [known.get(Path(one).with_suffix("").as_posix()) for one in ids]
    if None in found:
        raise UsageError(
            f"{folder} holds no mask for {ids[found.index(None)]!r}: a mask has the photograph's name and is white "
            "where no decision should come from."
        )
    return [one for one in found if one is not None]


def _rows_by_class(context: Context) -> tuple[IntArray, IntArray]:
    """Photographs of the classes with the most of them, a number of each, and the classes themselves."""
    groups = context.candidate.decisions if context.truth is None else context.truth
    names, counts = np.unique(groups, return_counts=True)
    chosen = names[np.argsort(-counts, kind="stable")][:CLASSES]
    rows = np.concatenate([np.flatnonzero(groups == one)[:EACH] for one in chosen])
    return rows, groups[rows]


def _repeats(context: Context, label: str, rows: IntArray, first: IntArray) -> str:
    """Which photographs of a class are nearly the same picture."""
    groups = [np.flatnonzero(first == one) for one in np.unique(first)]
    named = [
        " = ".join(context.candidate.inputs[int(rows[place])].id for place in some)
        for some in groups
        if len(some) > 1
    ]
    more = "; …" if len(named) > NAMED else ""
    return f"Photographs of {label!r} that nearly repeat one another count once: {'; '.join(named[:NAMED])}{more}."


def _told(label: str, part: Cluster, of: int) -> str:
    down = "top" if part.cell[0] < GRID / 3 else "bottom" if part.cell[0] >= 2 * GRID / 3 else "middle"
    across = "left" if part.cell[1] < GRID / 3 else "right" if part.cell[1] >= 2 * GRID / 3 else "centre"
    return (
        f"{len(part.rows)} of {of} photographs of {label!r} are decided by one place, {down} {across}: "
        f"{part.share:.0%} of their maps peak there, with {part.mass:.0%} of what speaks for the class. A mark?"
    )


@dataclass(frozen=True)
class Units:
    """How many died or are saturated since the reference, and their names."""

    dead: int
    saturated: int
    names: list[str]


def _units(context: Context) -> Units | None:
    """Of the layers that both have; None where none of them rectifies."""
    pairs, _ = matched(context.reference.model, context.candidate.model)
    pairs = [
        (one, other) for one, other in pairs if one.operator in RECTIFIED and one.name in context.reference.model.maps
    ]
    if not pairs:
        return None
    names = tuple(
        [settled(artefact.model, pair[side].name) for pair in pairs]
        for side, artefact in enumerate((context.reference, context.candidate))
    )
    stirs = [[np.zeros(one.shape[1], np.bool_) for one, _ in pairs] for _ in range(2)]
    full = [[np.zeros(one.shape[1]) for one, _ in pairs] for _ in range(2)]
    rows = context.some(PROBED)
    for row in rows:
        for side, artefact in enumerate((context.reference, context.candidate)):
            maps = artefact.oracle.taps(artefact.some(np.array([row])).tensor, names[side])
            for place, name in enumerate(names[side]):
                values = maps[name][0].reshape(maps[name].shape[1], -1)  # (C, h w)
                highest = values.max(axis=1, keepdims=True)
                least = FAINT * float(highest.max()) if side == 0 else 0.0
                stirs[side][place] |= highest[:, 0] > max(least, 0.0)
                full[side][place] += ((values == highest) & (highest > 0)).mean(axis=1) / len(rows)
    found, dead, saturated = list[str](), 0, 0
    for place, (layer, _) in enumerate(pairs):
        died = np.flatnonzero(stirs[0][place] & ~stirs[1][place])
        stuck = np.flatnonzero((full[1][place] > 0.5) & (full[0][place] <= 0.5) & stirs[1][place])
        dead, saturated = dead + len(died), saturated + len(stuck)
        title = context.reference.model.layers.title(layer.name)
        found += [f"{title} {unit}" for unit in [*died, *stuck]]
    return Units(dead, saturated, found)


SECTION = Shortcuts()
