"""How cost grows with images, windows, rows and classes: time and peak memory, exponents fitted, one picture.

Each size runs in a process of its own, so that no size inherits the memory of another. What is linear has an exponent
of 1; where a part of the cost does not depend on the size, it is below.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from machine import Disturbance
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from recording import OURS, Row, Session, append, quartiles

from sightline.demo.dataset import batch

ROUNDS = 3
SCENES = 64  # different pictures; more names are links to them
FEATURES = 64  # that the classes are read from

START = """
import json, os, sys, time
import numpy as np
import sightline
from sightline.bench.memory import growth
from sightline.types import Batch

size, threads, folder, rounds = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])

def measure(run, small):
    small()  # what every run needs, however little it does
    peak, seconds = growth(run), []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    print("FOUND", json.dumps({"seconds": seconds, "peak": peak}))
"""
SWEEP = """
side = 96
model = sightline.load("demo")
image = Batch.of(np.random.default_rng(0).standard_normal((1, 3, side, side), dtype=np.float32))

def sweep(count):
    across = int(count**0.5)  # windows of 16 pixels, as many each way: neighbours overlap
    places = np.linspace(0, side - 16, across).round().astype(int)
    windows = tuple((int(top), int(left), 16, 16) for top in places for left in places)
    plan = model.plan(sightline.Occlusion(windows=windows), threads=threads, batch=16, sweep={sweep!r})
    return lambda: plan.run(image, sightline.logit(0))

measure(sweep(size), sweep(64))
"""
CHILDREN: Mapping[str, str] = {
    "images": """
import itertools, contextlib
from sightline.cli import call
number = itertools.count()
def run(limit=size):
    out = os.path.join(folder, f"out-{size}-{next(number)}")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        code = call(["run", "occlusion", "demo", os.path.join(folder, "scenes"), "-o", out,
                     "--limit", str(limit), "--batch", "16", "--threads", str(threads), "--window", "32",
                     "--stride", "32", "--sweep", "dense"])
    assert code == 0
measure(run, lambda: run(32))
""",
    "windows, dense sweep": SWEEP.format(sweep="dense"),
    "windows, incremental sweep": SWEEP.format(sweep="incremental"),
    "rows": """
from sightline_kernels.knn import cpu
random = np.random.default_rng(0)
rows = random.standard_normal((size, 128), dtype=np.float32)
queries = random.standard_normal((256, 128), dtype=np.float32)
search = lambda count: cpu.search(rows[:count], queries, 10, threads=threads)
measure(lambda: search(size), lambda: search(5000))
""",
    "classes": """
model = sightline.load(os.path.join(folder, f"classes-{size}.onnx"))
images = Batch.of(np.random.default_rng(0).standard_normal((8, 3, 32, 32), dtype=np.float32))
plan = model.plan(sightline.Predict(), threads=threads, batch=8)
measure(lambda: plan.run(images).columns(), lambda: plan.run(images[:1]).columns())
""",
}


@dataclass(frozen=True)
class Quantity:
    """What grows.

    Attributes:
        sizes: from the smallest to the largest.
        case: what runs, for the table.
        is_flat: whether memory must not depend on the size.
    """

    sizes: Sequence[int]
    case: str
    is_flat: bool = True


QUANTITIES: Mapping[str, Quantity] = {
    "images": Quantity((64, 128, 256, 512), "a job: occlusion by 9 windows, demo network, PNG 96x96"),
    "windows, dense sweep": Quantity((64, 256, 1024, 4096), "one image, demo network, 16 per run"),
    "windows, incremental sweep": Quantity((64, 256, 1024, 4096), "one image, demo network, 16 per run"),
    "rows": Quantity((50_000, 100_000, 200_000, 400_000), "10 nearest of 256 queries, 128 numbers a row"),
    "classes": Quantity((1_000, 4_000, 16_000, 64_000), f"predict, 8 images, {FEATURES} features", is_flat=False),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes under many names, and networks of many classes."""
    made = tmp_path_factory.mktemp("growth")
    scenes = made / "scenes"
    scenes.mkdir()
    pixels = batch(0, range(SCENES)).images
    for number in range(max(QUANTITIES["images"].sizes)):
        path, first = scenes / f"{number:05}.png", scenes / f"{number % SCENES:05}.png"
        if number < SCENES:
            Image.fromarray(pixels[number]).save(path)
        else:
            path.hardlink_to(first)
    for count in QUANTITIES["classes"].sizes:
        onnx.save(classifier(count), made / f"classes-{count}.onnx")
    return made


def classifier(count: int) -> onnx.ModelProto:
    """One convolution, the mean over positions, and so many classes."""
    random = np.random.default_rng(count)
    weights = {
        "kernel": random.standard_normal((FEATURES, 3, 3, 3), dtype=np.float32),
        "head": random.standard_normal((FEATURES, count), dtype=np.float32) / 8,
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("MatMul", ["features", "head"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, "classes",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", count])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_growth(session: Session, folder: Path, pytestconfig: pytest.Config) -> None:
    disturbance = Disturbance.begin()
    found = {
        name: [child(name, size, session.threads, folder) for size in quantity.sizes]
        for name, quantity in QUANTITIES.items()
    }
    others = disturbance.share()
    rows = [row for name, figures in found.items() for row in rows_of(session, name, figures, others)]
    if pytestconfig.option.benchmark_enable:
        append(session.path, rows)
        path = draw(session.results / f"{session.device}-growth.png", found)
        print(f"\n{path}")
    for row in rows:
        print(f"{row.case}: {row.metric} {row.value:.3g} ({row.low:.3g} to {row.high:.3g})")


def child(name: str, size: int, threads: int, folder: Path) -> dict[str, Any]:
    """Seconds of every round and the peak of memory in bytes, above what was there before."""
    words = [str(size), str(threads), str(folder), str(ROUNDS)]
    done = subprocess.run([sys.executable, "-c", START + CHILDREN[name], *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("FOUND"))
    return json.loads(line.partition(" ")[2])


def exponents(sizes: Sequence[int], seconds: Sequence[Sequence[float]]) -> list[float]:
    """Of cost ~ size^x, fitted by least squares in logarithms, for each round."""
    return [float(np.polyfit(np.log(sizes), np.log(column), 1)[0]) for column in zip(*seconds, strict=True)]


def rows_of(session: Session, name: str, figures: Sequence[dict[str, Any]], others: float | None) -> list[Row]:
    """The exponent, that of the last step alone, and how memory grew."""
    quantity = QUANTITIES[name]
    seconds = [one["seconds"] for one in figures]
    kept = {
        "growth exponent of time": exponents(quantity.sizes, seconds),
        "growth exponent of time, last step": exponents(quantity.sizes[-2:], seconds[-2:]),
    }
    peaks = [one["peak"] for one in figures]
    if None not in peaks and quantity.is_flat:
        kept["peak memory, largest size less smallest"] = [(peaks[-1] - peaks[0]) / 1e6]
    return [
        session.row(
            benchmark="growth", case=f"{name}: {quantity.case}", subject=OURS, metric=metric,
            unit="MB" if "memory" in metric else "",
            value=middle, low=low, high=high, rounds=len(values), ratio_to="", ratio=None, ratio_low=None,
            ratio_high=None, others=others,
        )
        for metric, values in kept.items()
        for middle, low, high in [quartiles(values)]
    ]  # fmt: skip


def draw(path: Path, found: Mapping[str, Sequence[dict[str, Any]]]) -> Path:
    """Time and memory by size, both logarithmic, with lines of exponent 1 through the largest size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((3.1 * len(found), 5.6), 120, layout="constrained")
    FigureCanvasAgg(figure)
    places: Any = figure.subplots(2, len(found))
    for column, (name, figures) in enumerate(found.items()):
        quantity, (above, below) = QUANTITIES[name], places[:, column]
        sizes = np.array(quantity.sizes, float)
        middle = np.array([quartiles(one["seconds"])[0] for one in figures])
        spread = np.abs(np.array([quartiles(one["seconds"])[1:] for one in figures]).T - middle)
        above.plot(sizes, middle[-1] * sizes / sizes[-1], "--", color="#a9b1ba", label="linear")
        above.errorbar(sizes, middle, spread, fmt="o-", color="#1f6fb4", capsize=3, markersize=4.5)
        exponent = quartiles(exponents(quantity.sizes, [one["seconds"] for one in figures]))[0]
        above.set_title(f"{name}\nexponent {exponent:.2f}", fontsize=10)
        above.set_yscale("log")
        peaks = [(one["peak"] or 0) / 1e6 for one in figures]
        below.plot(sizes, peaks, "o-", color="#d1662b" if quantity.is_flat else "#8a93a0", markersize=4.5)
        below.set_ylim(0, max(1.3 * max(peaks), 1))
        below.set_title("must be flat" if quantity.is_flat else "grows with its result", fontsize=9)
        for axes in (above, below):
            axes.set_xscale("log", base=2)
            axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes], fontsize=8)
            axes.minorticks_off()
            axes.grid(visible=True, color="#e6e8eb")
            axes.spines[["top", "right"]].set_visible(False)
    places[0, 0].set_ylabel("seconds")
    places[0, 0].legend(frameon=False, fontsize=8)
    places[1, 0].set_ylabel("peak memory of a run, MB")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
