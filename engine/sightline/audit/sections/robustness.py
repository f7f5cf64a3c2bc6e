"""Robustness: what it says of photographs that were hit, by weather or by design."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sightline.adversarial.examples import AdversarialExamples
from sightline.adversarial.robustness import Robustness as Withstood
from sightline.adversarial.robustness import wilson
from sightline.audit.context import Artefact, Context, decided
from sightline.audit.corruptions import CORRUPTIONS, corrupted
from sightline.audit.section import Finding, Outcome
from sightline.errors import SightlineError
from sightline.methods.forward.black_box_curve import BlackBoxCurve
from sightline.registry import entries
from sightline.target import top
from sightline.types import FloatArray, IntArray

EPSILONS = (2.0, 4.0, 8.0)  # pixel values of the black-box attack
RESAMPLES = 1000  # of the bootstrap
EPSILON = 2.0  # pixel values of the transferred attack
WORSE = 0.1  # share of photographs more than the reference loses that is told


class Robustness:
    """Corruptions in some severities; adversarial pictures made on the reference and shown to both; random squares.

    The last need no gradient and are searched for on each artefact by itself: what was rounded away may hide a slope,
    but not a class that lies near.
    """

    name = "robustness"
    place = 50
    share = 0.13
    figures: Mapping[str, str] = {
        "corrupted": "share of corrupted photographs that keep the reference's class of the clean one",
        "corrupted_drop": "the reference's own share less that",
        "corrupted_drop_worst": "the largest such difference of one kind of corruption",
        "black_box": "share of photographs whose class withstands random squares of up to 8/255 (Square Attack)",
        "black_box_drop": "the reference's own share less that",
        "black_box_drop_low": "lower end of that drop's bootstrap interval of 95 %",
        "black_box_drop_high": "upper end of it",
        "transfer": "share of pictures that fool the reference (PGD, 2/255) and the candidate, too",
    }

    def run(self, context: Context) -> Outcome:
        rows = context.some(context.options.attacked)
        decisions = context.reference.decisions[rows]
        pair, severities = (context.reference, context.candidate), context.options.severities
        kept = {  # (severities, photographs) for each kind and artefact
            kind: [
                np.array([_kept(one, rows, decisions, kind, level, context.options.seed) for level in severities])
                for one in pair
            ]
            for kind in CORRUPTIONS
        }
        drops = {kind: float(ours.mean() - theirs.mean()) for kind, (ours, theirs) in kept.items()}
        shares = [float(np.mean([both[place].mean() for both in kept.values()])) for place in (0, 1)]
        worst = max(drops, key=drops.__getitem__)
        figures: dict[str, float | None] = {
            "corrupted": shares[1], "corrupted_drop": shares[0] - shares[1], "corrupted_drop_worst": drops[worst],
            "transfer": None,
        }  # fmt: skip
        curves = [_withstood(one, rows) for one in pair]
        figures |= _black_box(curves[0], curves[1], context.options.seed)
        found = list[Finding]()
        if drops[worst] > WORSE:
            found.append(
                Finding("warning", f"Under {worst} it loses {drops[worst]:.0%} more photographs than the reference.")
            )
        drop, low = figures["black_box_drop"], figures["black_box_drop_low"]
        if drop is not None and low is not None and drop > WORSE and low > 0:
            size = f"{EPSILONS[-1]:g}/255"
            told = f"Random squares of up to {size} fool it with {drop:.0%} more photographs than the reference."
            found.append(Finding("warning", told))
        transfer = self._transfer(context, rows)
        if isinstance(transfer, Finding):
            found.append(transfer)
        else:
            fooled, count = transfer
            figures["transfer"] = fooled / count if count else None
        details = {
            "severities": list(severities),
            "black_box": {
                "epsilons": [0.0, *EPSILONS],
                "queries": context.options.queries,
                "withstand": [[_interval(column, context.options.seed) for column in curve.T] for curve in curves],
            },
            "kept": {
                kind: [
                    [_interval(one[level], context.options.seed) for level in range(len(severities))] for one in both
                ]
                for kind, both in kept.items()
            },
            "transfer": None if isinstance(transfer, Finding) else [*transfer, *wilson(*transfer)],
        }
        return Outcome(figures, tuple(found), details=details)

    def _transfer(self, context: Context, rows: IntArray) -> tuple[int, int] | Finding:
        """How many of the pictures that fool the reference fool the candidate, or why there are none."""
        pgd: Any = entries()["pgd"].load()
        try:
            made = context.reference.plan(pgd(epsilon=EPSILON)).run(context.reference.some(rows), top(1))
        except SightlineError as reason:
            return Finding("note", f"No adversarial pictures were made: {str(reason).splitlines()[0]}")
        assert isinstance(made, AdversarialExamples)
        fools = np.flatnonzero(made.fooled)
        if not len(fools):
            return 0, 0
        images = context.candidate.model.preprocess.normalise(made.values[fools])
        said = decided(context.candidate.oracle.logits(images))
        return int((said != context.candidate.decisions[rows[fools]]).sum()), len(fools)


def _kept(artefact: Artefact, rows: IntArray, decisions: IntArray, kind: str, severity: int, seed: int) -> np.ndarray:
    """(n,) whether each photograph's class stays, as the model sees it: what it is shown is its own view, hit."""
    hit = [corrupted(artefact.view(int(row)), kind, severity, seed + int(row)) for row in rows]
    images: FloatArray = np.stack([artefact.model.preprocess.normalise(one) for one in hit])
    return decided(artefact.oracle.logits(images)) == decisions


def _withstood(artefact: Artefact, rows: IntArray) -> np.ndarray:
    """(n, 1 + E) whether each photograph keeps the artefact's own class under squares of up to each size, 0 first."""
    options = artefact.options
    curve = BlackBoxCurve(attack=f"square_attack(queries={options.queries}, seed={options.seed})", epsilons=EPSILONS)
    found = artefact.plan(curve).run(artefact.some(rows), top(1))
    assert isinstance(found, Withstood)
    return found.values.astype(np.float64)


def _black_box(ours: np.ndarray, theirs: np.ndarray, seed: int) -> dict[str, float | None]:
    """Shares under the largest change; the drop is resampled over photographs, both artefacts together."""
    drops = ours[:, -1] - theirs[:, -1]
    mean, low, high = _interval(drops, seed)
    return {
        "black_box": float(theirs[:, -1].mean()), "black_box_drop": mean, "black_box_drop_low": low,
        "black_box_drop_high": high,
    }  # fmt: skip


def _interval(kept: np.ndarray, seed: int) -> list[float]:
    """Share, and both ends of its bootstrap interval of 95 % over photographs."""
    drawn = np.random.default_rng(seed).integers(0, len(kept), (RESAMPLES, len(kept)))
    low, high = np.quantile(kept[drawn].mean(axis=1), [0.025, 0.975])
    return [float(kept.mean()), float(low), float(high)]


SECTION = Robustness()
