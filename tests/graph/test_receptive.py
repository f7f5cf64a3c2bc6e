"""Receptive fields by brute force: which pixels change which outputs, on random stacks of sliding operators."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from problems import make_model, node
from sightline.graph.layers import infer_shapes
from sightline.graph.receptive import ReceptiveField, receptive_fields

SIDE = 19, 23  # height and width; odd, and large against most fields


def random_stack(seed: int) -> onnx.ModelProto:
    """Convolutions, poolings, a joined branch; strides, dilations, one-sided and automatic pads; positive weights."""
    rng = np.random.default_rng(seed)
    nodes, arrays, last = [], {}, "image"
    for depth in range(int(rng.integers(2, 5))):
        kind = rng.choice(["Conv", "MaxPool", "AveragePool", "branches"])
        kernel = [int(k) for k in rng.integers(1, 4, 2)]
        options: dict = {"kernel_shape": kernel, "strides": [int(s) for s in rng.integers(1, 3, 2)]}
        padding = rng.choice(["pads", "SAME_UPPER", "SAME_LOWER", "VALID"])
        if padding == "pads":
            options["pads"] = [int(rng.integers(0, k)) for k in (*kernel, *kernel)]
        else:
            options["auto_pad"] = str(padding)
            # ONNX Runtime takes no average whose automatic padding would be negative.
            options["strides"] = [min(s, k) for s, k in zip(options["strides"], kernel, strict=True)]
        if kind == "Conv":
            if padding in ("pads", "VALID"):  # ONNX Runtime knows no automatic pads beside dilation
                options["dilations"] = [int(d) for d in rng.integers(1, 3, 2)]
            arrays[f"k{depth}"] = np.full((1, 1, *kernel), 0.25)
            nodes.append(node("Conv", f"{last} k{depth}", f"v{depth}", **options))
        elif kind == "branches":
            wide, tall = np.full((1, 1, 1, 3), 0.3), np.full((1, 1, 5, 1), 0.2)
            arrays |= {f"wide{depth}": wide, f"tall{depth}": tall, f"mix{depth}": np.full((1, 2, 1, 1), 0.5)}
            nodes += [
                node("Conv", f"{last} wide{depth}", f"a{depth}", kernel_shape=[1, 3], pads=[0, 1, 0, 1]),
                node("Conv", f"{last} tall{depth}", f"b{depth}", kernel_shape=[5, 1], pads=[2, 0, 2, 0]),
                node("Concat", f"a{depth} b{depth}", f"c{depth}", axis=1),
                node("Conv", f"c{depth} mix{depth}", f"v{depth}", kernel_shape=[1, 1]),
            ]
        else:
            nodes.append(node(str(kind), last, f"v{depth}", **options))
        last = f"v{depth}"
    return make_model(nodes, arrays, shape=[1, 1, *SIDE], outputs={last: [1, 1, None, None]})


def seen(model: onnx.ModelProto) -> np.ndarray:
    """(h, w, H, W) booleans: output position (y, x) changes when pixel (i, j) does.

    Every pixel is raised above the rest of a flat image, far enough for a maximum and an average to notice.
    """
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(image: np.ndarray) -> np.ndarray:
        return session.run(None, {"image": image.astype(np.float32)})[0][0, 0]

    flat = np.ones((1, 1, *SIDE))
    before = run(flat)
    found = np.zeros((*before.shape, *SIDE), bool)
    for i in range(SIDE[0]):
        for j in range(SIDE[1]):
            changed = flat.copy()
            changed[0, 0, i, j] = 1000
            found[:, :, i, j] = run(changed) != before
    return found


def bounds(field: ReceptiveField, changes: np.ndarray) -> None:
    """The field holds all pixels that change an output, and no more than their extent."""
    rows, columns = np.arange(SIDE[0]), np.arange(SIDE[1])
    for y in range(changes.shape[0]):
        for x in range(changes.shape[1]):
            top, left, height, width = field.window(y, x)
            inside_rows = rows[(rows >= top) & (rows < top + height)]
            inside_columns = columns[(columns >= left) & (columns < left + width)]
            touched_rows, touched_columns = np.nonzero(changes[y, x])
            assert set(touched_rows) <= set(inside_rows)
            assert set(touched_columns) <= set(inside_columns)
            # Where nothing is cut at the border, the field is no larger than what is seen, in either direction.
            if len(inside_rows) == height and len(inside_columns) == width and len(touched_rows):
                assert (touched_rows.min(), touched_rows.max()) == (top, top + height - 1)
                assert (touched_columns.min(), touched_columns.max()) == (left, left + width - 1)


@pytest.mark.parametrize("seed", range(24))
def test_fields_are_the_bounds_of_what_changes(seed: int) -> None:
    proto = random_stack(seed)
    model = ir.serde.deserialize_model(proto)
    shapes = infer_shapes(model, (1, 1, *SIDE))
    name = proto.graph.output[0].name
    field, changes = receptive_fields(model, shapes)[name], seen(proto)
    assert changes.shape[:2] == shapes[name][2:]
    bounds(field, changes)


def test_shuffled_and_picked_channels_keep_their_window_and_zeros_around_a_map_move_it() -> None:
    arrays = {
        "k": np.full((4, 1, 3, 3), 0.25), "groups": np.array([1, 2, 2, *SIDE]), "flat": np.array([1, 4, *SIDE]),
        "from": np.array([1]), "to": np.array([4]), "axis": np.array([1]), "some": np.array([2, 0]),
        "around": np.array([0, 0, 2, 1, 0, 0, 0, 3]), "mix": np.full((1, 2, 2, 3), 0.5),
    }  # fmt: skip
    nodes = [
        node("Conv", "image k", "conv", pads=[1, 1, 1, 1]),
        node("Reshape", "conv groups", "grouped"),
        node("Transpose", "grouped", "turned", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "turned flat", "shuffled"),
        node("Slice", "shuffled from to axis", "three"),
        node("Gather", "three some", "two", axis=1),
        node("Pad", "two around", "padded"),
        node("Conv", "padded mix", "out", strides=[1, 2]),
    ]
    proto = make_model(nodes, arrays, shape=[1, 1, *SIDE], outputs={"out": [1, 1, None, None]})
    model = ir.serde.deserialize_model(proto)
    field, changes = receptive_fields(model, infer_shapes(model, (1, 1, *SIDE)))["out"], seen(proto)
    assert field.size == (4, 5)
    bounds(field, changes)


def mirrored_stack(seed: int) -> onnx.ModelProto:
    """Pads of every mode among convolutions, poolings and a residual sum; positive weights."""
    rng = np.random.default_rng(seed)
    nodes, arrays, last = [], {}, "image"
    for depth in range(int(rng.integers(2, 5))):
        mode = str(rng.choice(["reflect", "edge", "wrap", "constant"]))
        arrays[f"p{depth}"] = np.array([0, 0, *rng.integers(0, 4, 2), 0, 0, *rng.integers(0, 4, 2)])
        nodes.append(node("Pad", f"{last} p{depth}", f"padded{depth}", mode=mode))
        kernel = [int(k) for k in rng.integers(1, 4, 2)]
        options: dict = {"kernel_shape": kernel, "strides": [int(s) for s in rng.integers(1, 3, 2)]}
        kind = rng.choice(["Conv", "MaxPool", "AveragePool", "sum"])
        if kind == "sum":
            arrays[f"k{depth}"] = np.full((1, 1, 3, 3), 0.25)
            nodes += [
                node("Conv", f"padded{depth} k{depth}", f"branch{depth}", pads=[1, 1, 1, 1]),
                node("Add", f"padded{depth} branch{depth}", f"v{depth}"),
            ]
        elif kind == "Conv":
            arrays[f"k{depth}"] = np.full((1, 1, *kernel), 0.25)
            pads = [int(rng.integers(0, k)) for k in (*kernel, *kernel)]
            dilations = [int(d) for d in rng.integers(1, 3, 2)]
            nodes.append(
                node("Conv", f"padded{depth} k{depth}", f"v{depth}", dilations=dilations, pads=pads, **options)
            )
        else:
            nodes.append(node(str(kind), f"padded{depth}", f"v{depth}", **options))
        last = f"v{depth}"
    return make_model(nodes, arrays, shape=[1, 1, *SIDE], outputs={last: [1, 1, None, None]}, opset=19)


@pytest.mark.parametrize("seed", range(32))
def test_borders_that_are_read_from_elsewhere_widen_the_field_of_those_that_read_them(seed: int) -> None:
    proto = mirrored_stack(seed)
    model = ir.serde.deserialize_model(proto)
    name = proto.graph.output[0].name
    field, changes = receptive_fields(model, infer_shapes(model, (1, 1, *SIDE)))[name], seen(proto)
    exact = 0
    for y in range(changes.shape[0]):
        for x in range(changes.shape[1]):
            top, left, height, width = field.window(y, x)
            rows, columns = np.nonzero(changes[y, x])
            if not len(rows):
                continue  # all that it reads is a constant border
            assert top <= rows.min() <= rows.max() < top + height
            assert left <= columns.min() <= columns.max() < left + width
            if top >= 0 and top + height <= SIDE[0] and left >= 0 and left + width <= SIDE[1]:
                exact += 1
                assert (rows.min(), rows.max()) == (top, top + height - 1)
                assert (columns.min(), columns.max()) == (left, left + width - 1)
    assert exact > 0


def test_a_mirror_changes_the_field_near_the_border_alone() -> None:
    """Two pixels mirrored on every side, then a kernel of five: position 0 reads pixels 2 1 0 1 2."""
    around = {"around": np.array([0, 0, 2, 2, 0, 0, 2, 2]), "k": np.ones((1, 1, 5, 5))}
    nodes = [node("Pad", "image around", "padded", mode="reflect"), node("Conv", "padded k", "out")]
    proto = make_model(nodes, around, shape=[1, 1, *SIDE], outputs={"out": [None] * 4})
    model = ir.serde.deserialize_model(proto)
    field = receptive_fields(model, infer_shapes(model, (1, 1, *SIDE)))["out"]
    assert field.size == (5, 5)
    assert field.window(5, 6) == (3, 4, 5, 5)
    assert field.window(0, 0) == (0, 0, 3, 3)
    assert field.window(SIDE[0] - 1, 1) == (SIDE[0] - 3, 0, 3, 4)


def test_pads_told_for_some_axes_move_the_field() -> None:
    arrays = {"around": np.array([2, 1]), "axes": np.array([-1])}
    nodes = [node("Pad", "image around  axes", "out")]
    nodes[0].input[:] = ["image", "around", "", "axes"]
    proto = make_model(nodes, arrays, shape=[1, 1, *SIDE], outputs={"out": [None] * 4}, opset=18)
    model = ir.serde.deserialize_model(proto)
    field = receptive_fields(model, infer_shapes(model, (1, 1, *SIDE)))["out"]
    assert field.window(3, 4) == (3, 2, 1, 1)


@pytest.mark.parametrize("perm", [[0, 1, 3, 2], [0, 2, 3, 1]])
def test_turned_maps_have_no_window(perm: list[int]) -> None:
    square = [1, 3, 3, 3]
    proto = make_model([node("Transpose", "image", "out", perm=perm)], {}, shape=square, outputs={"out": [None] * 4})
    model = ir.serde.deserialize_model(proto)
    assert "out" not in receptive_fields(model, infer_shapes(model, tuple(square)))


@pytest.mark.parametrize(
    ("operator", "options"),
    [("GlobalAveragePool", {}), ("Flatten", {}), ("Softmax", {"axis": 3}), ("Concat", {"axis": 2})],
)
def test_what_sees_the_whole_image_has_no_window(operator: str, options: dict) -> None:
    inputs = "relu relu" if operator == "Concat" else "relu"
    nodes = [node("Relu", "image", "relu"), node(operator, inputs, "out", **options), node("Relu", "out", "last")]
    proto = make_model(nodes, {}, shape=[1, 1, *SIDE], outputs={"last": [None] * (2 if operator == "Flatten" else 4)})
    model = ir.serde.deserialize_model(proto)
    fields = receptive_fields(model, infer_shapes(model, (1, 1, *SIDE)))
    assert fields["relu"].size == (1, 1)
    assert "out" not in fields
    assert "last" not in fields


def test_branches_at_different_speeds_have_no_window() -> None:
    """A broadcast sum of a map and its strided reading mixes positions that move apart."""
    nodes = [
        node("MaxPool", "image", "slow", kernel_shape=[1, SIDE[1]], strides=[1, 2]),  # one column
        node("Add", "image slow", "sum"),
    ]
    proto = make_model(nodes, {}, shape=[1, 1, *SIDE], outputs={"sum": [None] * 4})
    model = ir.serde.deserialize_model(proto)
    assert "sum" not in receptive_fields(model, infer_shapes(model, (1, 1, *SIDE)))
