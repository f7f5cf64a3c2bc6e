"""Infidelity of the audit against Captum's, on a real network's maps of real photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import THREADS
from sightline.audit.faithfulness import falls, infidelity_of, said_of, squares
from sightline.methods.forward.occlusion import Occlusion
from sightline.methods.forward.predict import Predict
from sightline.model import load
from sightline.reading import read
from sightline.target import logit
from sightline.types import FloatArray

metrics = pytest.importorskip("captum.metrics", reason="captum is not installed: pip install 'sightline[peers]'")
torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'sightline[torch]'")


@pytest.mark.parametrize(("seed", "index"), [(1, 207), (2, 3)])
def test_infidelity_of_occlusion_maps(squeezenet_path: Path, photos: Path, seed: int, index: int) -> None:
    """Captum multiplies changes by attributions of the input's shape: a third of the map in each channel."""
    files = sorted(photos.glob("*.jpg"))
    row = int(np.random.default_rng(seed).integers(len(files)))
    with load(squeezenet_path, preset="imagenet") as model:
        images = read([files[row]], like=model)
        map_ = model.explain(images, Occlusion(window=32, stride=32), logit(index), threads=THREADS).values[0]
        oracle: Any = model.oracle(model.plan(Predict(), threads=THREADS))
        parts = squares(*map_.shape, 24, seed)

        def score(copies: FloatArray) -> FloatArray:
            return oracle.logits(copies)[:, index]

        ours = infidelity_of(
            said_of(map_, parts), falls(score, images.tensor[0], np.zeros_like(images.tensor[0]), parts)
        )

        def forward(copies: Any) -> Any:
            return torch.from_numpy(score(copies.numpy()))

        def perturb(inputs: Any, baselines: Any = None) -> Any:
            hidden = torch.from_numpy(np.repeat(parts[:, None], 3, axis=1))
            return hidden.to(inputs.dtype), torch.where(hidden, torch.zeros(()), inputs)

        attribution = torch.from_numpy(np.repeat(map_[None, None] / 3, 3, axis=1))
        theirs = metrics.infidelity(
            forward, perturb, torch.from_numpy(images.tensor), attribution, n_perturb_samples=24, normalize=True
        )
    assert float(theirs) > 0
    assert ours == pytest.approx(float(theirs), rel=1e-4)
