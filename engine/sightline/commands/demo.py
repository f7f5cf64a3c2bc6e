"""Run every method on the built-in network and images, offline, and write a report: sightline demo -o DIR."""

from __future__ import annotations

import json as json_format
import sys
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from sightline import registry
from sightline.commands._options import Threads
from sightline.demo import LABELS
from sightline.demo.dataset import Scenes, write
from sightline.demo.dataset import batch as draw_batch
from sightline.demo.truth import agreement, centre_maps, random_maps
from sightline.errors import NoRoute, UsageError
from sightline.model import Model, load
from sightline.reading import read
from sightline.report import report
from sightline.routes.base import Settings
from sightline.styles.style import Style
from sightline.styles.stylist import Stylist
from sightline.target import logit, top
from sightline.types import Batch, Heatmaps, Result

FINER: dict[str, dict[str, Any]] = {  # the images have 96 pixels, not 224, and the demo a minute
    "occlusion": {"window": 16, "stride": 4},
    "rise": {"masks": 500},
    "kernel_shap": {"segments": 30, "samples": 300},
    "lime": {"segments": 30, "samples": 300},
    "superpixel_occlusion": {"segments": 30},
    "class_visualisation": {"seeds": 1, "steps": 128, "rotation": 15.0, "zoom": 0.3, "total_variation": 5.0},
    "fgsm": {"epsilon": 8.0},
    "pgd": {"epsilon": 8.0},
    "square_attack": {"epsilon": 16.0, "queries": 300},
    "black_box_curve": {"attack": "square_attack(queries=100)"},
    "inversion": {"steps": 80},
    "gatys_texture": {"steps": 60},
    "style_transfer": {"steps": 40},
    "deep_dream": {"octaves": 2},
}
SHOWN = {
    "inversion": 1,
    "deep_dream": 4,
    "gatys_texture": 2,
    "style_transfer": 2,
    "square_attack": 8,
    "black_box_curve": 12,
}  # images that methods of many steps get


def demo(
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"), help="Folder for the images and report.html.")],
    images: Annotated[int, Parameter(help="How many scenes to draw and explain.")] = 2 * len(LABELS),
    seed: Annotated[int, Parameter(help="Which scenes; the network was trained on seed 1.")] = 7,
    threads: Threads = None,
    json: Annotated[bool, Parameter(help="Print one JSON object.", negative="")] = False,
) -> int:
    """Draw scenes, explain each with every method, compare the maps with the true masks, write one page."""
    if images < 1 or seed < 0:
        raise UsageError(f"--images {images} must be at least 1 and --seed {seed} at least 0.")
    start = time.perf_counter()
    files = write(out / "images", seed, images)
    scenes = draw_batch(seed, range(images))
    results: list[Result] = []
    truths: dict[str, str] = {}
    with load("demo") as model:
        photos = read(files, like=model)
        for entry in registry.entries().values():
            method = entry.load()(**FINER.get(entry.name, {}))
            try:
                plan = model.plan(method, threads=threads)
            except NoRoute as reason:
                print(f"{entry.name} is left out: {reason}", file=sys.stderr)
                continue
            target = logit(tuple(range(len(LABELS)))) if entry.name == "class_visualisation" else top(1)
            result = plan.run(photos[: SHOWN.get(entry.name, images)], target)
            results.append(result)
            if entry.name == "style_transfer":
                results.append(_fast(model, method, photos[: SHOWN[entry.name]], threads))
            if isinstance(result, Heatmaps):
                truths[entry.name] = str(agreement(result.values, scenes.masks))
        truths |= _controls(scenes)
        facts = {**model.facts, "data": f"{images} scenes drawn from seed {seed}, never seen in training"}
        page = report(
            photos, _for_the_page(results), title="What the demo network sees", model=facts, labels=model.labels
        )
        path = page.save(out / "report.html")
    seconds = time.perf_counter() - start
    if json:
        print(json_format.dumps({"report": str(path), "images": images, "seconds": seconds, "truth": truths}))
        return 0
    width = max(map(len, truths))
    print("Where the maps lie, against the true masks:")
    for name, truth in truths.items():
        print(f"  {name:<{width}}  {truth}")
    print(f"{path}: {images} images, {len(results)} methods, {seconds:.1f} s.")
    return 0


def _fast(model: Model, method: Any, photos: Batch, threads: int | None) -> Result:
    """The style in the box, in one pass."""
    from sightline.styles.one_pass import one_pass

    oracle: Any = model.oracle(model.plan(method, threads=threads))
    stylist = Stylist(Style.read("demo"), Settings(threads=threads))
    return one_pass(stylist, model.preprocess.to_pixels(photos.tensor), method, oracle, photos)


def _controls(scenes: Scenes) -> dict[str, str]:
    """What maps that know nothing, or only that objects are central, score."""
    return {
        "(random map)": str(agreement(random_maps(scenes.masks), scenes.masks)),
        "(centre)": str(agreement(centre_maps(scenes.masks), scenes.masks)),
    }


def _for_the_page(results: list[Result]) -> list[Result]:
    """First what the network says, then which pixels decide, then what its layers hold."""
    return sorted(results, key=lambda one: (type(one).__name__ != "Predictions", not isinstance(one, Heatmaps)))
