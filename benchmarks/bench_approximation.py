"""Approximate occlusion of real photographs: how much faster than exact, and how like it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from networks import MODELS, SIDE
from recording import Row, Session, append, quartiles

import sightline
from sightline.agreement import agreement
from sightline.methods.forward.occlusion import Occlusion
from sightline.target import top
from sightline.types import FloatArray

PHOTOGRAPHS, PER_ROUND = 50, 10
MODES: dict[str, dict[str, float]] = {
    "tolerance 0.4": {"tolerance": 0.4}, "tolerance 0.5": {"tolerance": 0.5}, "tolerance 0.6": {"tolerance": 0.6},
    "tolerance 0.7": {"tolerance": 0.7}, "refine 0.2": {"refine": 0.2}, "refine 0.1": {"refine": 0.1},
    "refine 0.2, tolerance 0.4": {"refine": 0.2, "tolerance": 0.4},
    "refine 0.1, tolerance 0.4": {"refine": 0.1, "tolerance": 0.4},
    "refine 0.1, tolerance 0.5": {"refine": 0.1, "tolerance": 0.5},
}  # fmt: skip


def test_approximation(session: Session, pytestconfig: pytest.Config) -> None:
    path, folder = MODELS / "squeezenet1_0.onnx", MODELS.parent / "images"
    if not (path.is_file() and folder.is_dir()):
        pytest.skip("the trained network or the photographs are not beside the checkout")
    files = sorted(folder.iterdir())[:: max(1, len(list(folder.iterdir())) // PHOTOGRAPHS)][:PHOTOGRAPHS]
    rows = _measured(session, pytestconfig, path, files)
    append(session.path, rows)
    for row in rows:
        print(f"{row.subject:28} {row.metric:20} {row.value:.3f} ({row.low:.3f}-{row.high:.3f})")


def _measured(session: Session, config: pytest.Config, path: Path, files: list[Path]) -> list[Row]:
    """Every mode on the same photographs, round after round, after an exact sweep of each round's."""
    window, stride, threads = config.option.window, config.option.stride, config.option.threads
    faster: dict[str, list[float]] = {name: [] for name in MODES}
    alike: dict[str, list[tuple[float, float, float]]] = {name: [] for name in MODES}
    with sightline.load(path, preset="imagenet") as model:
        plans = {
            name: model.plan(Occlusion(window=window, stride=stride, sample=0, **fields), threads=threads, batch=16)
            for name, fields in {"exact": {}, **MODES}.items()
        }
        for start in range(0, len(files), PER_ROUND):
            images = sightline.read([str(file) for file in files[start : start + PER_ROUND]], like=model)
            seconds: dict[str, float] = {}
            maps: dict[str, FloatArray] = {}
            for name, plan in plans.items():
                plan.run(images[:1], top(1))  # the sweep of the last mode is kept, not this one's
                begun = time.perf_counter()
                maps[name] = plan.run(images, top(1)).values
                seconds[name] = time.perf_counter() - begun
            for name in MODES:
                faster[name].append(seconds["exact"] / seconds[name])
                found = [agreement(*pair) for pair in zip(maps[name], maps["exact"], strict=True)]
                alike[name] += [(one.spearman, one.ssim, one.top) for one in found]
    case = f"SqueezeNet 1.0, {SIDE}x{SIDE}, window {window}, stride {stride}, {len(files)} photographs"
    figures = {(name, "speed-up", "times exact"): quartiles(values) for name, values in faster.items()}
    for name, values in alike.items():
        for metric, column in zip(("Spearman", "SSIM", "top 5 % overlap"), np.array(values).T, strict=True):
            _, low, high = quartiles(column.tolist())
            figures[name, metric, "mean"] = float(column.mean()), low, high
    return [
        session.row(
            benchmark="approximation", case=case, subject=name, metric=metric, unit=unit, value=value, low=low,
            high=high, rounds=len(faster[name]), ratio_to="", ratio=None, ratio_low=None, ratio_high=None,
            others=None,
        )
        for (name, metric, unit), (value, low, high) in sorted(figures.items())
    ]  # fmt: skip
