"""Incremental sweeps against dense ones: random graphs, random windows, borders, every kind of join."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sightline
from sightline.abilities import WindowSweep
from sightline.routes.base import Settings
from sightline.routes.ort import OrtOracle
from sightline.routes.window_sweep import sweep_plan, sweepable
from sightline.target import logit, unit
from sightline_exporters.variants import to_half

TOLERANCE = 1e-5  # of the largest change of a score
OLDER = 200  # graphs from this seed on also shuffle, pick and border


class Draft:
    """A graph under construction; remembers the channels and size of every value."""

    def __init__(self, seed: int, size: tuple[int, int]):
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shapes = {"image": (3, *size)}

    def add(self, operator: str, inputs: list[str], shape: tuple[int, ...], **attributes) -> str:
        name = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        self.shapes[name] = shape
        return name

    def weight(self, *shape: int, scale: float = 1.0) -> str:
        name = f"w{len(self.weights)}"
        values = self.random.standard_normal(shape, dtype=np.float32) * np.float32(scale)
        self.weights.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def conv(self, source: str, channels: int, kernel, stride, dilation, pads, group: int = 1) -> str:
        c, h, w = self.shapes[source]
        size = [
            (n + pads[i] + pads[i + 2] - (kernel[i] - 1) * dilation[i] - 1) // stride[i] + 1
            for i, n in enumerate((h, w))
        ]
        weight = self.weight(channels, c // group, *kernel, scale=(2 / (c // group * kernel[0] * kernel[1])) ** 0.5)
        return self.add(
            "Conv", [source, weight, self.weight(channels)], (channels, *size), kernel_shape=kernel, strides=stride,
            dilations=dilation, pads=pads, group=group,
        )  # fmt: skip

    def pool(self, source: str, operator: str, kernel, stride, pads) -> str:
        c, h, w = self.shapes[source]
        size = [(n + pads[i] + pads[i + 2] - kernel[i]) // stride[i] + 1 for i, n in enumerate((h, w))]
        extra = {"count_include_pad": int(self.random.integers(0, 2))} if operator == "AveragePool" else {}
        return self.add(operator, [source], (c, *size), kernel_shape=kernel, strides=stride, pads=pads, **extra)

    def same(self, operator: str, source: str, **attributes) -> str:
        return self.add(operator, [source], self.shapes[source], **attributes)

    def numbers(self, *values: int) -> str:
        name = f"n{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def shuffle(self, source: str, groups: int) -> str:
        c, h, w = self.shapes[source]
        apart = self.add("Reshape", [source, self.numbers(0, groups, c // groups, h, w)], ())
        turned = self.add("Transpose", [apart], (), perm=[0, 2, 1, 3, 4])
        return self.add("Reshape", [turned, self.numbers(0, c, h, w)], (c, h, w))

    def border(self, source: str, pads: list[int]) -> str:
        c, h, w = self.shapes[source]
        top, left, bottom, right = pads
        amounts = self.numbers(0, 0, top, left, 0, 0, bottom, right)
        return self.add("Pad", [source, amounts], (c, h + top + bottom, w + left + right))

    def pick(self, source: str, channels: np.ndarray) -> str:
        _, h, w = self.shapes[source]
        return self.add("Gather", [source, self.numbers(*channels)], (len(channels), h, w), axis=1)

    def half(self, source: str) -> str:
        c, h, w = self.shapes[source]
        ends = [self.numbers(1), self.numbers(c - 1), self.numbers(1)]
        return self.add("Slice", [source, *ends], (c - 2, h, w))

    def finish(self, source: str, folder: Path) -> Path:
        c = self.shapes[source][0]
        mean = self.add("GlobalAveragePool", [source], (c, 1, 1))
        flat = self.add("Flatten", [mean], (c,))
        scores = self.add("Gemm", [flat, self.weight(c, 5), self.weight(5)], (5,))
        self.nodes[-1].output[0] = "logits"
        graph = helper.make_graph(
            self.nodes, "draft",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", *self.shapes["image"]])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 5])], self.weights,
        )  # fmt: skip
        assert scores
        path = folder / "draft.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
        return path


def random_graph(seed: int, folder: Path) -> tuple[Path, str]:
    """A network of random layers with residuals and joins; and the name of an inner value."""
    random = np.random.default_rng(seed)
    draft = Draft(seed, (int(random.integers(17, 34)), int(random.integers(17, 34))))
    value, inner = "image", ""
    for depth in range(int(random.integers(3, 8))):
        c, h, w = draft.shapes[value]
        choice = int(random.integers(0, 10 if seed < OLDER else 14)) if depth else 0
        kernel = [int(random.choice([1, 2, 3, 5])), int(random.choice([1, 3, 4]))]
        pads = [int(random.integers(0, k)) for k in (*kernel, *kernel)]
        stride = [int(random.integers(1, 3)), int(random.integers(1, 3))]
        if min(h, w) < 7:
            stride = [1, 1]
        if choice <= 2:
            dilation = [int(random.integers(1, 3)), 1] if h > 12 else [1, 1]
            value = draft.conv(value, int(random.integers(1, 4)) * 4, kernel, stride, dilation, pads)
            value = draft.same(str(random.choice(["Relu", "Sigmoid", "HardSwish", "Tanh"])), value)
        elif choice == 3:
            value = draft.conv(value, c, [3, 3], [1, 1], [1, 1], [1, 1, 1, 1], group=c)
        elif choice == 4:
            operator = str(random.choice(["MaxPool", "AveragePool"]))
            half = [k // 2 for k in kernel]
            value = draft.pool(value, operator, kernel, stride, half + half if random.integers(0, 2) else [0] * 4)
        elif choice == 5:
            branch = draft.conv(value, c, [3, 3], [1, 1], [1, 1], [1, 1, 1, 1])
            branch = draft.conv(draft.same("Relu", branch), c, [3, 3], [1, 1], [1, 1], [1, 1, 1, 1])
            value = draft.same("Relu", draft.add("Add", [branch, value], (c, h, w)))
        elif choice == 6:
            one = draft.conv(value, 4, [1, 1], [1, 1], [1, 1], [0] * 4)
            three = draft.conv(value, 8, [5, 3], [1, 1], [1, 1], [2, 1, 2, 1])
            value = draft.add("Concat", [one, value, three], (12 + c, h, w), axis=1)
        elif choice == 7:
            gate = draft.add("GlobalAveragePool", [value], (c, 1, 1))
            gate = draft.same("Sigmoid", draft.conv(gate, c, [1, 1], [1, 1], [1, 1], [0] * 4))
            value = draft.add("Mul", [value, gate], (c, h, w))
        elif choice == 8 and min(h, w) >= 7:  # as RepVGG halves its maps: the narrow branch skips what changes
            one = draft.conv(value, 8, [1, 1], [2, 2], [1, 1], [0] * 4)
            three = draft.conv(value, 8, [3, 3], [2, 2], [1, 1], [1] * 4)
            value = draft.same("Relu", draft.add("Add", [one, three], draft.shapes[three]))
        elif choice == 10:
            value = draft.shuffle(value, 2 if c % 2 == 0 else 1)
        elif choice == 11:
            value = draft.border(value, [int(n) for n in random.integers(0, 3, 4)])
        elif choice == 12:
            value = draft.pick(value, random.permutation(c))
        elif choice == 13 and c >= 4:
            value = draft.half(value)
        else:
            value = draft.add("Mul", [value, draft.weight(c, 1, 1)], (c, h, w))
            value = draft.same("LRN", value, size=3)
        inner = value if random.integers(0, 2) or not inner else inner
        if min(draft.shapes[value][1:]) < 4:
            break
    return draft.finish(value, folder), inner


def random_windows(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Windows of several sizes, some at the borders, some larger than most of the image."""
    rows = []
    for _ in range(9):
        h, w = (int(random.integers(1, max(2, n // int(random.choice([1, 3, 5]))))) for n in (height, width))
        rows.append([int(random.choice([0, height - h, random.integers(0, height - h + 1)])),
                     int(random.choice([0, width - w, random.integers(0, width - w + 1)])), h, w])  # fmt: skip
    return np.array(rows, np.int64)


def sweep(oracle: WindowSweep, images, windows, fill, target) -> np.ndarray:
    scores = np.full((len(images), len(windows)), np.nan)
    for chunk in oracle.sweep(images, windows, fill, target):
        scores[chunk.image, chunk.windows] = chunk.scores
    return scores


@pytest.mark.parametrize("small", [False, True], ids=["any-windows", "small-windows"])
@pytest.mark.parametrize("seed", [*range(60), *range(OLDER, OLDER + 40)])
def test_random_graphs(seed: int, small: bool, tmp_path: Path):
    path, inner = random_graph(seed, tmp_path)
    model = sightline.load(path)
    height, width = model.input_size
    random = np.random.default_rng(seed + 500)
    images = random.standard_normal((2, 3, height, width), dtype=np.float32)
    windows = random_windows(random, height, width)
    if small:
        windows[:, 2:] = np.minimum(windows[:, 2:], 3)
    fill = random.standard_normal((1, 3, height, width), dtype=np.float32)
    for target in (logit(1), logit((2, 4)), unit(inner, channel=0)):
        found, expected = (
            sweep(OrtOracle(model, Settings(threads=1, batch=batch, sweep=way)), images, windows, fill, target)
            for way, batch in (("incremental", 4), ("dense", 3))
        )
        scale = np.abs(expected).max() + 1e-6
        assert np.abs(found - expected).max() <= TOLERANCE * scale, (path, target)


@pytest.mark.parametrize("seed", range(60, 72))
def test_a_graph_in_half_precision_is_swept_as_closely_as_its_own_rounding(seed: int, tmp_path: Path):
    """In half precision two ways of adding differ by more; both are compared with the network before conversion."""
    path, _ = random_graph(seed, tmp_path)
    half = sightline.load(to_half(path, tmp_path / "half.onnx"))
    height, width = half.input_size
    random = np.random.default_rng(seed)
    images = random.standard_normal((1, 3, height, width), dtype=np.float32)
    windows = random_windows(random, height, width)
    fill = np.zeros((1, 3, height, width), np.float32)
    whole = sweep(OrtOracle(sightline.load(path), Settings(sweep="dense")), images, windows, fill, logit(1))
    dense, incremental = (
        sweep(OrtOracle(half, Settings(threads=1, batch=4, sweep=way)), images, windows, fill, logit(1))
        for way in ("dense", "incremental")
    )
    scale = np.abs(whole).max() + 1e-6
    assert np.abs(incremental - whole).max() <= 2 * np.abs(dense - whole).max() + 2e-3 * scale, path


@pytest.mark.parametrize("groups", [2, 4])
def test_a_change_is_followed_through_a_channel_shuffle(groups: int, tmp_path: Path):
    """As in ShuffleNet: the maps behind shuffles are computed on a part, and scores are those of the dense sweep."""
    draft = Draft(groups, (48, 40))
    value = draft.conv("image", 16, [3, 3], [1, 1], [1, 1], [1] * 4)
    for _ in range(3):
        value = draft.same("Relu", draft.conv(value, 16, [1, 1], [1, 1], [1, 1], [0] * 4, group=groups))
        value = draft.shuffle(value, groups)
        value = draft.conv(value, 16, [3, 3], [1, 1], [1, 1], [1] * 4, group=16)
    model = sightline.load(draft.finish(value, tmp_path))
    random = np.random.default_rng(1)
    windows = random_windows(random, 48, 40)
    windows[:, 2:] = np.minimum(windows[:, 2:], 5)
    plan = sweep_plan(model, windows, ("logits",))
    assert plan.cuts[value].positions < 48 * 40 / 3
    images, fill = random.standard_normal((2, 3, 48, 40), dtype=np.float32), np.zeros((1, 3, 48, 40), np.float32)
    found, expected = (
        np.stack(
            [
                sweep(OrtOracle(model, Settings(threads=1, batch=4, sweep=way)), images, windows, fill, logit(index))
                for index in range(5)
            ]
        )
        for way in ("incremental", "dense")
    )
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_a_target_within_a_shuffle_is_swept_too(tmp_path: Path):
    draft = Draft(3, (20, 18))
    value = draft.conv("image", 8, [3, 3], [1, 1], [1, 1], [1] * 4)
    source = draft.same("Relu", draft.shuffle(value, 2))
    model = sightline.load(draft.finish(source, tmp_path))
    apart = next(name for name in draft.shapes if name.startswith("transpose"))
    names = {output.name for node in sweepable(model, (apart,)).graph for output in node.outputs}
    assert apart in names
    assert apart not in {output.name for node in sweepable(model, ("logits",)).graph for output in node.outputs}


def test_a_kernel_of_one_position_with_a_border_moves_no_window_astray(tmp_path: Path):
    draft = Draft(5, (16, 15))
    value = draft.conv("image", 4, [3, 3], [1, 1], [1, 1], [1] * 4)
    value = draft.conv(value, 4, [1, 1], [1, 1], [1, 1], [0, 0, 2, 1])
    model = sightline.load(draft.finish(draft.same("Relu", value), tmp_path))
    random = np.random.default_rng(2)
    windows = random_windows(random, 16, 15)
    windows[:, 2:] = np.minimum(windows[:, 2:], 3)
    images, fill = random.standard_normal((1, 3, 16, 15), dtype=np.float32), np.ones((1, 3, 16, 15), np.float32)
    found, expected = (
        sweep(OrtOracle(model, Settings(threads=1, batch=4, sweep=way)), images, windows, fill, logit(1))
        for way in ("incremental", "dense")
    )
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("deeper", [0, 1])
def test_the_halves_of_a_split_are_one_cut(deeper: int, tmp_path: Path):
    """One half waits, as in ShuffleNet and CSP blocks, while the other's changes grow: both come from one node."""
    draft = Draft(6, (40, 37))
    value = draft.same("Relu", draft.conv("image", 8, [3, 3], [1, 1], [1, 1], [1] * 4))
    halves = [f"{value}@{half}" for half in range(2)]
    draft.nodes.append(helper.make_node("Split", [value], halves, name="split", axis=1))
    draft.shapes |= dict.fromkeys(halves, (4, 40, 37))
    grown = draft.same("Relu", draft.conv(halves[deeper], 4, [3, 3], [1, 1], [1, 1], [1] * 4))
    pair = [grown, halves[1 - deeper]] if deeper == 0 else [halves[0], grown]
    joined = draft.add("Concat", pair, (8, 40, 37), axis=1)
    path = draft.finish(draft.conv(joined, 8, [3, 3], [1, 1], [1, 1], [1] * 4), tmp_path)
    model = sightline.load(path)
    random = np.random.default_rng(4)
    windows = random_windows(random, 40, 37)
    windows[:, 2:] = np.minimum(windows[:, 2:], 4)
    assert sweep_plan(model, windows, ("logits",)).cuts[joined].positions < 40 * 37
    images, fill = random.standard_normal((2, 3, 40, 37), dtype=np.float32), np.zeros((1, 3, 40, 37), np.float32)
    found, expected = (
        sweep(OrtOracle(model, Settings(threads=1, batch=4, sweep=way)), images, windows, fill, logit(1))
        for way in ("incremental", "dense")
    )
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
