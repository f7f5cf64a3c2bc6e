"""Robustness: what it says of photographs that were hit, by weather or by design."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sightline.adversarial.examples import AdversarialExamples
from sightline.adversarial.robustness import wilson
from sightline.audit.context import Artefact, Context
from sightline.audit.corruptions import CORRUPTIONS, corrupted
from sightline.audit.section import Finding, Outcome
from sightline.errors import SightlineError
from sightline.registry import entries
from sightline.target import top
from sightline.types import FloatArray, IntArray

SEVERITIES = (1, 3, 5)
RESAMPLES = 1000  # of the bootstrap
EPSILON = 2.0  # pixel values of the transferred attack
WORSE = 0.1  # share of photographs more than the reference loses that is told


class Robustness:
    """Corruptions in three severities, and adversarial pictures made on the reference and shown to both."""

    name = "robustness"
    place = 50
    share = 0.10
    figures: Mapping[str, str] = {
        "corrupted": "share of corrupted photographs that keep the reference's class of the clean one",
        "corrupted_drop": "the reference's own share less that",
        "corrupted_drop_worst": "the largest such difference of one kind of corruption",
        "transfer": "share of pictures that fool the reference (PGD, 2/255) and the candidate, too",
    }

    def run(self, context: Context) -> Outcome:
        rows = context.some(context.options.attacked)
        classes = context.reference.predictions[rows]
        pair = (context.reference, context.candidate)
        kept = {  # (severities, photographs) for each kind and artefact
            kind: [
                np.array([_kept(one, rows, classes, kind, level, context.options.seed) for level in SEVERITIES])
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
        found = list[Finding]()
        if drops[worst] > WORSE:
            found.append(
                Finding("warning", f"Under {worst} it loses {drops[worst]:.0%} more photographs than the reference.")
            )
        transfer = self._transfer(context, rows)
        if isinstance(transfer, Finding):
            found.append(transfer)
        else:
            fooled, count = transfer
            figures["transfer"] = fooled / count if count else None
        details = {
            "severities": list(SEVERITIES),
            "kept": {
                kind: [
                    [_interval(one[level], context.options.seed) for level in range(len(SEVERITIES))] for one in both
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
            made = context.reference.model.plan(pgd(epsilon=EPSILON), threads=context.options.threads).run(
                context.reference.some(rows), top(1)
            )
        except SightlineError as reason:
            return Finding("note", f"No adversarial pictures were made: {str(reason).splitlines()[0]}")
        assert isinstance(made, AdversarialExamples)
        fools = np.flatnonzero(made.fooled)
        if not len(fools):
            return 0, 0
        images = context.candidate.model.preprocess.normalise(made.values[fools])
        said = context.candidate.oracle.logits(images).argmax(axis=1)
        return int((said != context.candidate.predictions[rows[fools]]).sum()), len(fools)


def _kept(artefact: Artefact, rows: IntArray, classes: IntArray, kind: str, severity: int, seed: int) -> np.ndarray:
    """(n,) whether each photograph's class stays, as the model sees it: what it is shown is its own view, hit."""
    hit = [corrupted(artefact.view(int(row)), kind, severity, seed + int(row)) for row in rows]
    images: FloatArray = np.stack([artefact.model.preprocess.normalise(one) for one in hit])
    return artefact.oracle.logits(images).argmax(axis=1) == classes


def _interval(kept: np.ndarray, seed: int) -> list[float]:
    """Share, and both ends of its bootstrap interval of 95 % over photographs."""
    drawn = np.random.default_rng(seed).integers(0, len(kept), (RESAMPLES, len(kept)))
    low, high = np.quantile(kept[drawn].mean(axis=1), [0.025, 0.975])
    return [float(kept.mean()), float(low), float(high)]


SECTION = Robustness()
