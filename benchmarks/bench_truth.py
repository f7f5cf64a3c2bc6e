"""Where each method's maps lie, on scenes whose objects' masks are known; nothing is timed."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from recording import Session, append

import sightline
from sightline import registry
from sightline.commands.demo import FINER
from sightline.demo.dataset import Scenes, batch
from sightline.demo.truth import agreement, centre_maps, overlap, random_maps
from sightline.errors import NoRoute
from sightline.methods.gradient._cutting import Cut
from sightline.methods.gradient.grabcut import Grabcut
from sightline.types import Batch, FloatArray, Heatmaps

IMAGES, SEED = 500, 7  # the network was trained on seed 1
CONTROLS = {"(random map)": random_maps, "(centre)": centre_maps}


def test_truth(session: Session, pytestconfig: pytest.Config) -> None:
    scenes = batch(SEED, range(IMAGES))
    found = {name: scored(make(scenes.masks), scenes) for name, make in CONTROLS.items()}
    with sightline.load("demo") as model:
        images = Batch.of(np.stack([model.preprocess(Image.fromarray(pixels))[1] for pixels in scenes.images]))
        for entry in registry.entries().values():
            try:
                plan = model.plan(entry.load()(**FINER.get(entry.name, {})), threads=pytestconfig.option.threads)
            except NoRoute:
                continue
            result = plan.run(images[:1])
            if isinstance(result, Heatmaps):
                maps = plan.run(images)
                assert isinstance(maps, Heatmaps)
                found[entry.name] = scored(maps.values, scenes)
    rows = [
        session.row(
            benchmark="truth", case=f"demo, {IMAGES} images", subject=name, metric=metric, unit="share", value=value,
            low=value, high=value, rounds=1, ratio_to="", ratio=None, ratio_low=None, ratio_high=None, others=None,
        )
        for name, metrics in found.items()
        for metric, value in metrics.items()
    ]  # fmt: skip
    append(session.path, rows)
    for row in rows:
        print(f"{row.subject:24} {row.metric:34} {row.value:.3f}")


def scored(maps: FloatArray, scenes: Scenes) -> dict[str, float]:
    """Shares by metric, of maps (B, H, W)."""
    truth, method = agreement(maps, scenes.masks), Grabcut()
    cut = Cut(method.mass, method.margin, method.foreground, method.blur, method.iterations)
    masks = np.stack([cut(picture, one)[0] for picture, one in zip(scenes.images, maps, strict=True)]) > 0
    return {
        "highest point on the object": truth.hits,
        "mass on the object": truth.inside,
        "GrabCut's overlap with the object": overlap(masks, scenes.masks),
    }
