"""Attacks on the real SqueezeNet, judged on ONNX Runtime after a round trip through PNG; nothing is timed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from networks import MODELS
from recording import Row, Session, append

import sightline
from sightline.adversarial.examples import AdversarialExamples
from sightline.adversarial.robustness import wilson
from sightline.methods.forward.square_attack import SquareAttack
from sightline.methods.gradient.deepfool import Deepfool
from sightline.methods.gradient.fgsm import Fgsm
from sightline.methods.gradient.fool import Fool
from sightline.methods.gradient.pgd import Pgd
from sightline.model import Model
from sightline.registry import Method
from sightline.target import Target, logit, top
from sightline.types import Batch, joined

SEED = 0  # of the classes that are aimed at
BATCH = 20  # photographs that are held at once


def test_adversarial(session: Session, pytestconfig: pytest.Config) -> None:
    path, folder = MODELS / "squeezenet1_0.onnx", MODELS.parent / "images"
    if not (path.is_file() and folder.is_dir()):
        pytest.skip("the trained network or the photographs are not beside the checkout")
    count = pytestconfig.option.photographs
    files = sorted(folder.iterdir())
    chosen = [str(files[place]) for place in np.linspace(0, len(files) - 1, count).astype(int)]
    figures: dict[str, tuple[float, float, float]] = {}
    with sightline.load(path, preset="imagenet") as model:
        aims = tuple(np.random.default_rng(SEED).integers(0, model.class_count, count).tolist())
        attacks: dict[str, tuple[Method, Target]] = {
            "fool to a random class": (Fool(), logit(aims)),
            "DeepFool": (Deepfool(), top(1)),
            "FGSM 2/255": (Fgsm(epsilon=2.0), top(1)),
            "PGD 2/255": (Pgd(epsilon=2.0), top(1)),
            "square attack 8/255, 2,000 queries": (SquareAttack(epsilon=8.0, queries=2000), top(1)),
        }
        for name, (method, target) in attacks.items():
            found = _attacked(model, method, target, chosen, session.threads)
            figures |= {f"{name}: {what}": value for what, value in _figures(found).items()}
    append(session.path, [_row(session, count, name, *value) for name, value in figures.items()])
    for name, (value, low, high) in figures.items():
        print(f"{name:60} {value:.4g} ({low:.4g} to {high:.4g})")


def _attacked(model: Model, method: Method, target: Target, chosen: list[str], threads: int) -> AdversarialExamples:
    found = joined(list(_parts(model, method, target, chosen, threads)))
    assert isinstance(found, AdversarialExamples)
    return found


def _parts(
    model: Model, method: Method, target: Target, chosen: list[str], threads: int
) -> Iterator[AdversarialExamples]:
    plan = model.plan(method, threads=threads)
    for first in range(0, len(chosen), BATCH):
        rows = range(first, min(first + BATCH, len(chosen)))
        photos: Batch = sightline.read([Path(chosen[row]) for row in rows], like=model)
        found = plan.run(photos, target.take(list(rows)))
        assert isinstance(found, AdversarialExamples)
        yield found


def _figures(found: AdversarialExamples) -> dict[str, tuple[float, float, float]]:
    """Value, low and high: Wilson's interval of shares, quartiles of the rest; over images that were attacked."""
    tried = ~found.already
    hits = int(found.fooled[tried].sum())
    similarities = np.array([found.similarity(int(row)) for row in np.flatnonzero(tried)])
    return {
        "share fooled": (hits / max(int(tried.sum()), 1), *wilson(hits, int(tried.sum()))),
        "length over the image's": _quartiles(found.share[tried]),
        "largest change": _quartiles(found.linf[tried]),
        "similarity": _quartiles(similarities),
        "queries": _quartiles(found.queries[tried]),
    }


def _quartiles(values: np.ndarray) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(middle), float(low), float(high)


def _row(session: Session, count: int, metric: str, value: float, low: float, high: float) -> Row:
    return session.row(
        benchmark="adversarial", case=f"SqueezeNet 1.0, {count} photographs", subject="sightline", metric=metric,
        unit="", value=value, low=low, high=high, rounds=1, ratio_to="", ratio=None, ratio_low=None, ratio_high=None,
        others=None,
    )  # fmt: skip
