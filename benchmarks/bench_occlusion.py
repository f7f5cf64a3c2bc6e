"""Occlusion sweeps against Captum's and against our own dense ones, windows per second.

A window costs a dense sweep the same wherever it lies, so the slower subjects are timed on a coarser grid, side by
side windows. Ours sweeps the whole grid, its base pass included.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Occlusion as CaptumOcclusion
from networks import SIDE, Network
from recording import Session, append

from sightline.methods.forward.occlusion import Occlusion
from sightline.target import logit
from sightline.types import Batch

PER_RUN = (16, 64)  # Captum's perturbations_per_eval; its best is the peer


def test_against_captum(network: Network, race: Any, pytestconfig: pytest.Config) -> None:
    window, stride, images, index = _setting(network, pytestconfig)
    threads = pytestconfig.option.threads
    peer = CaptumOcclusion(network.module)

    def captum(per_run: int) -> torch.Tensor:
        return peer.attribute(
            torch.from_numpy(images.tensor),
            sliding_window_shapes=(3, window, window),
            strides=(3, window, window),
            target=index,
            perturbations_per_eval=per_run,
        )

    method = Occlusion(window=window, stride=stride)
    plan = network.model.plan(method, threads=threads)
    ours = partial(plan.run, images, logit(index))
    peers = {f"captum, {per_run} per run": partial(captum, per_run) for per_run in PER_RUN}
    few = Occlusion(window=window, stride=window)
    found = network.model.plan(few, threads=threads).run(images, logit(index)).values  # (1, H, W)
    for run in peers.values():
        expected = run().numpy()[:, 0]  # (1, H, W): the same in every channel
        assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()
    ours()
    race(
        ours,
        peers,
        case=f"{network.title}, {SIDE}x{SIDE}, window {window}, stride {stride}",
        metric="throughput",
        unit="windows/s",
        work={"sightline": method.forward_passes(SIDE, SIDE) - 1}
        | dict.fromkeys(peers, few.forward_passes(SIDE, SIDE) - 1),
    )


def test_against_dense(network: Network, race: Any, session: Session, pytestconfig: pytest.Config) -> None:
    _against_dense(network, race, session, pytestconfig)


def test_families_against_dense(relative: Network, race: Any, session: Session, pytestconfig: pytest.Config) -> None:
    _against_dense(relative, race, session, pytestconfig)


def _against_dense(network: Network, race: Any, session: Session, pytestconfig: pytest.Config) -> None:
    """Beside it, what the plan said before: ratios to the dense sweep, predicted and by arithmetic alone."""
    window, stride, images, index = _setting(network, pytestconfig)
    method = Occlusion(window=window, stride=stride)
    few = Occlusion(window=window, stride=window)
    threads = pytestconfig.option.threads
    plan = network.model.plan(method, threads=threads)
    whole = network.model.plan(few, threads=threads, sweep="dense")
    ours, dense = (partial(one.run, images, logit(index)) for one in (plan, whole))
    for run in (ours, dense):
        run()
    case = f"{network.title}, {SIDE}x{SIDE}, window {window}, stride {stride}"
    rows = race(
        ours,
        {"dense": dense},
        case=f"{case}, against dense",
        metric="throughput",
        unit="windows/s",
        work={"sightline": method.forward_passes(SIDE, SIDE) - 1, "dense": few.forward_passes(SIDE, SIDE) - 1},
    )
    assert plan.forecast is not None
    said: dict[str, float | None] = {
        "predicted": plan.forecast.speed_up,
        "multiply-accumulates": plan.forecast.ceiling,
    }
    said["measured"] = next((row.ratio for row in rows if row.ratio is not None), None)
    append(session.path, [
        session.row(
            benchmark="occlusion", case=f"{case}, prediction", subject=name, metric="times dense", unit="ratio",
            value=value, low=value, high=value, rounds=1, ratio_to="", ratio=None, ratio_low=None, ratio_high=None,
            others=None,
        )
        for name, value in said.items()
        if value is not None
    ])  # fmt: skip


def _setting(network: Network, config: pytest.Config) -> tuple[int, int, Batch, int]:
    images = network.images(1)
    (index,) = network.highest(images)
    return config.option.window, config.option.stride, images, index
