"""Parity: how far the scores are apart on real photographs, why, and where in the network it begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from sightline.audit.context import Artefact, Context
from sightline.audit.layers import Divergence, divergence
from sightline.audit.section import Finding, Outcome
from sightline.preprocess import PRESETS, Preprocess
from sightline.routes.ort import OrtOracle
from sightline.types import FloatArray, IntArray

QUANTILES = (0.5, 0.9, 0.99, 1.0)
TRIED = 24  # photographs that other preprocessings are tried on
PROBED = 4  # photographs whose layers are compared
SUSPECT = 0.05  # relative error of the scores from which other preprocessings are tried
FAITHFUL = 1e-3  # relative error up to which nothing is worth telling
CLOSER = 4  # times that what explains a difference must bring the scores closer together
FEWEST = 4  # photographs on which classes in another order can be told
BEGINS = 0.1  # relative error of a layer that counts as divergence


class Parity:
    """Numbers on real images; see the figures."""

    name = "parity"
    place = 20
    share = 0.03
    figures: Mapping[str, str] = {
        "relative_error": "length of the difference of all scores over the length of the reference's",
        "error_median": "absolute difference of a score, median over photographs and classes",
        "error_p99": "absolute difference of a score, 99th percentile over photographs and classes",
        "error_max": "absolute difference of a score, the largest",
        "cosine": "between the score vectors of a photograph, mean",
        "cosine_min": "between the score vectors of a photograph, smallest",
        "sqnr_db": "signal to noise of the scores in decibels, larger is better",
        "not_finite": "scores that are NaN or infinite",
        "top1_agreement": "share of photographs with the same highest class",
        "flip_rate": "share of photographs with another highest class",
        "flip_margin": "where they differ, the reference's lead of its class over the candidate's, in probability",
        "accuracy": "share of photographs whose highest class is their label",
        "accuracy_drop": "reference's accuracy less the candidate's",
        "calibration_error": "expected calibration error over 10 bins",
        "calibration_change": "the candidate's calibration error less the reference's",
        "confidence_change": "mean probability of the highest class, the candidate's less the reference's",
        "batch_dependence": "largest relative difference of a photograph's scores between a batch and alone; "
        "unknown of a graph that fixes its batch",
        "run_to_run": "largest relative difference of a photograph's scores between two runs",
        "preprocessing_mismatch": "1 where another preprocessing brings the candidate's scores to the reference's",
        "layers_compared": "layers that both have, by name or by structure",
        "divergent_depth": "place of the first layer more than 10 % apart, 0 first to 1 last; 1 where none is",
    }

    def run(self, context: Context) -> Outcome:
        ours, theirs = context.reference, context.candidate
        found = list[Finding]()
        figures = dict.fromkeys(self.figures, None) | _scores(ours.logits, theirs.logits)
        figures |= _predictions(context) | _stability(theirs)
        layers = divergence(ours, theirs, PROBED)
        first = layers.first(BEGINS)
        figures["preprocessing_mismatch"] = 0.0
        figures["layers_compared"] = float(len(layers.names))
        figures["divergent_depth"] = 1.0 if first is None else first / max(len(layers.names) - 1, 1)
        error = figures["relative_error"]
        if figures["not_finite"]:
            found.append(Finding("fault", f"{int(figures['not_finite'])} scores are NaN or infinite."))
        if error is None or error > FAITHFUL:
            found += _where(layers, first)
        if error is None or error > SUSPECT:
            explained = list(_explained(context))
            figures["preprocessing_mismatch"] = float(len(explained))
            found += explained or _reordered(context)
        if not layers.names:
            found.append(Finding("warning", "They share no layers, by name or structure: none was compared."))
        details = {
            "layers": [list(row) for row in zip(layers.names, layers.errors, strict=True)],
            "matched_by": layers.by,
            "flips": _flips(context),
        }
        return Outcome(figures, tuple(found), _per_class(context), details)


def _scores(ours: FloatArray, theirs: FloatArray) -> dict[str, float | None]:
    finite = np.isfinite(theirs)
    wide = ours.astype(np.float64), np.where(finite, theirs, 0.0).astype(np.float64)
    apart = np.abs(wide[0] - wide[1])[finite]
    lengths = [np.linalg.norm(one, axis=1) for one in wide]
    cosine = (wide[0] * wide[1]).sum(axis=1) / np.maximum(lengths[0] * lengths[1], 1e-30)
    noise = float(np.linalg.norm(wide[0] - wide[1]))
    signal = float(np.linalg.norm(wide[0]))
    quantiles = np.quantile(apart, QUANTILES) if apart.size else [np.nan] * 4
    return {
        "relative_error": noise / max(signal, 1e-30),
        "error_median": float(quantiles[0]), "error_p99": float(quantiles[2]), "error_max": float(quantiles[3]),
        "cosine": float(cosine.mean()), "cosine_min": float(cosine.min()),
        "sqnr_db": float(20 * np.log10(max(signal, 1e-30) / max(noise, 1e-30))) if noise else 999.0,
        "not_finite": float((~finite).sum()),
    }  # fmt: skip


def _predictions(context: Context) -> dict[str, float | None]:
    ours, theirs = context.reference, context.candidate
    same, everything = ours.decisions == theirs.decisions, np.arange(len(context))
    rows = np.flatnonzero(~same)
    margins = ours.likelihood(rows, ours.decisions[rows]) - ours.likelihood(rows, theirs.decisions[rows])
    tops = [one.likelihood(everything, one.decisions) for one in (ours, theirs)]
    figures: dict[str, float | None] = {
        "top1_agreement": float(same.mean()),
        "flip_rate": float((~same).mean()),
        "flip_margin": float(np.median(margins)) if len(rows) else None,
        "confidence_change": float(tops[1].mean() - tops[0].mean()),
    }
    if context.truth is not None:
        right = [one.decisions == context.truth for one in (ours, theirs)]
        errors = [calibration_error(top, hit) for top, hit in zip(tops, right, strict=True)]
        figures |= {
            "accuracy": float(right[1].mean()), "accuracy_drop": float(right[0].mean() - right[1].mean()),
            "calibration_error": errors[1], "calibration_change": errors[1] - errors[0],
        }  # fmt: skip
    return figures


def calibration_error(confidence: FloatArray, right: Any, bins: int = 10) -> float:
    """Expected calibration error: mean gap of confidence and accuracy over equal bins, weighted by their images.

    Naeini, Cooper, Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning" (2015).
    """
    places = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = [
        abs(float(confidence[places == one].mean()) - float(right[places == one].mean())) * int((places == one).sum())
        for one in np.unique(places)
    ]
    return sum(gaps) / len(confidence)


def _stability(artefact: Artefact) -> dict[str, float | None]:
    """Does a photograph's result depend on its batch, or on chance."""
    some = artefact.some(np.arange(min(8, len(artefact.inputs)))).tensor
    whole = artefact.oracle.logits(some)
    scale = max(float(np.abs(whole).max()), 1e-30)
    again = artefact.oracle.logits(some)
    found: dict[str, float | None] = {"run_to_run": float(np.abs(whole - again).max()) / scale}
    if artefact.model.input.batch is None:
        oracle = OrtOracle(artefact.model, replace(artefact.settings, batch=1))
        found["batch_dependence"] = float(np.abs(whole - oracle.logits(some)).max()) / scale
        oracle.close()
    return found


def _where(layers: Divergence, first: int | None) -> list[Finding]:
    if not layers.names or first is None:
        return []
    told = f"{layers.names[first]} is the first layer more than {BEGINS:.0%} apart ({layers.errors[first]:.1%})"
    before = f"; the one before, {layers.names[first - 1]}, by {layers.errors[first - 1]:.2%}" if first else ""
    return [Finding("note", f"{told}{before}.")]


def usual_preprocessings(of: Preprocess) -> Iterator[tuple[str, Preprocess]]:
    """What people mix up, each with its name: colour order, normalisation, scale, resizing."""
    if of.channels != "L":
        order = "BGR" if of.channels == "RGB" else "RGB"
        yield f"colours in the order {order}", of.changed(channels=order)
        yield (  # whoever swaps the first layer's kernels swaps their normalisation, too
            f"colours in the order {order}, each with its own mean and std",
            of.changed(channels=order, mean=of.mean[::-1], std=of.std[::-1]),
        )
    for name, other in PRESETS.items():
        if len(other.mean) == len(of.mean):
            changed = of.changed(scale=other.scale, mean=other.mean, std=other.std)
            yield (
                f"the normalisation of {name} (mean {other.mean}, std {other.std}, scale {other.scale:.3g})",
                changed,
            )
    for factor in (0.5, 2.0):
        yield f"a std {factor:g} times as large", of.changed(std=tuple(factor * one for one in of.std))
    for way in ("bilinear", "bicubic", "nearest", "lanczos"):
        yield f"{way} resizing", of.changed(interpolation=way, antialias=True)
    yield "bilinear resizing without antialiasing", of.changed(interpolation="bilinear", antialias=False)
    if of.crop is not None:
        yield "a resize to the whole input, without a crop", of.changed(resize=of.crop)
    elif isinstance(of.resize, tuple):
        side = round(min(of.resize) * 256 / 224)
        yield f"the shorter side resized to {side}, and a crop", of.changed(resize=side, crop=of.resize)


def _explained(context: Context) -> Iterator[Finding]:
    """The usual preprocessing that brings the candidate's scores closest to the reference's, if that is close."""
    rows = context.some(TRIED)
    model, expected = context.candidate.model, context.reference.logits[rows].astype(np.float64)
    length = max(float(np.linalg.norm(expected)), 1e-30)
    pictures = [context.candidate.picture(int(row)) for row in rows]

    def error(preprocess: Preprocess) -> float:
        images = np.stack([preprocess(picture)[1] for picture in pictures])
        return float(np.linalg.norm(context.candidate.oracle.logits(images) - expected)) / length

    now = error(model.preprocess)
    tried = [
        (error(other), name) for name, other in usual_preprocessings(model.preprocess) if other != model.preprocess
    ]
    best, name = min(tried, default=(now, ""))
    if best < now / CLOSER:
        yield Finding(
            "fault",
            f"The candidate wants other images than it is given: with {name} its scores are {best:.2%} from the "
            f"reference's, instead of {now:.1%}.",
        )


def class_order(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> IntArray:
    """(K,) the place among scores (N, K) of each class of others, by which all are closest together."""
    squares = [np.square(one).sum(axis=0) for one in (ours, theirs)]
    apart = squares[0][:, None] + squares[1] - 2 * ours.T @ theirs  # (K, K)
    return linear_sum_assignment(apart)[1]


def shows_order(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> bool:
    """Whether scores (N, K) are others' with the classes in another order, and not merely sorted alike.

    Some order of many classes brings the few scores of each close together whatever network they are of. So the order
    is found on every other photograph, and must bring together what varies over those that are left, which neither
    classes that one of the networks always prefers nor chance does.
    """
    now = then = 0.0
    for start in range(2):
        order = class_order(ours[start::2], theirs[start::2])
        mine, its = (one[1 - start :: 2] - one[1 - start :: 2].mean(axis=0) for one in (ours, theirs))
        now += float(np.square(mine - its).sum())
        then += float(np.square(mine - its[:, order]).sum())
    return then < now / CLOSER**2


def _reordered(context: Context) -> list[Finding]:
    """Whether the scores are the reference's with the classes in another order."""
    ours, theirs = (one.logits.astype(np.float64) for one in (context.reference, context.candidate))  # (N, K)
    if len(ours) < FEWEST or not np.isfinite(theirs).all():
        return []
    order = class_order(ours, theirs)  # the candidate's place of each class
    moved = np.flatnonzero(order != np.arange(len(order)))
    length = max(float(np.linalg.norm(ours)), 1e-30)
    now, then = (float(np.linalg.norm(one - ours)) / length for one in (theirs, theirs[:, order]))
    if not len(moved) or then >= now / CLOSER or not shows_order(ours, theirs):
        return []
    first = int(moved[0])
    text = (
        f"{len(moved)} classes stand in another order: the scores of {context.of_class(first)} are at place "
        f"{int(order[first])}, not {first}. Put back, the scores are {then:.2%} from the reference's, instead of "
        f"{now:.1%}."
    )
    return [Finding("fault", text)]


def _per_class(context: Context) -> dict[str, dict[str, float]]:
    """Agreement and accuracy by label, of classes that are there."""
    ours, theirs = context.reference.decisions, context.candidate.decisions
    groups: IntArray = ours if context.truth is None else context.truth
    found: dict[str, dict[str, float]] = {"top1_agreement": {}}
    for one in np.unique(groups):
        rows = groups == one
        found["top1_agreement"][context.of_decision(int(one))] = float((ours == theirs)[rows].mean())
        if context.truth is not None:
            found.setdefault("accuracy", {})[context.of_decision(int(one))] = float(
                (theirs == context.truth)[rows].mean()
            )
    return found


def _flips(context: Context) -> list[list[Any]]:
    """Photographs with another highest class, the most confident first: id, both classes, both probabilities."""
    ours, theirs = context.reference, context.candidate
    rows: IntArray = np.flatnonzero(ours.decisions != theirs.decisions)
    sure = [one.likelihood(rows, one.decisions[rows]) for one in (ours, theirs)]
    return [
        [
            ours.inputs[int(rows[place])].id, context.of_decision(int(ours.decisions[rows[place]])),
            context.of_decision(int(theirs.decisions[rows[place]])), float(sure[0][place]), float(sure[1][place]),
        ]
        for place in np.argsort(-sure[0], kind="stable")[:50]
    ]  # fmt: skip


SECTION = Parity()
