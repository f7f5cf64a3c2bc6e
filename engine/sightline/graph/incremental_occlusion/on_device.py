"""A compiled sweep whose pictures, index tables and remainders the graph makes itself, from the windows' numbers.

Cases, with the numbers that the code carries:
    1. Index tables are computed from where every window's cut begins, which is known when the graph is written.
    2. A picture is gathered like any other cut: from rows of pixels, image, fill, outside, which the base puts out.
    3. Remainders are differences of sums over rectangles, which the base puts out, in float64.
    4. The base puts out rows of positions, behind them what stands for the outside, as the sweep takes them: nothing
       is copied or converted between the two.
    5. Of several images the rows lie one image after the other, and every window says whose it is. Their number is
       written into the graph, which then computes on no shapes.
    6. Rows of the map and of the windows are gathered apart and chosen from: joined, they would be copied in every
       run, and ONNX Runtime's CUDA provider joins by tables of the host, which a captured graph outlives.
    7. What only makes the CPU provider keep a layout goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sightline.graph.incremental_occlusion.cut import Cut, Stretch
from sightline.graph.incremental_occlusion.rewrite import BLOCKED, FILLERS, Picture, Remainder, Source, Sweep, Table
from sightline.graph.layers import Shapes
from sightline.graph.splice import Splice
from sightline.types import IntArray

NUMBERS, PLACES, OWNER = "sweep:numbers", "sweep:places", "sweep:owner"
FILL, PIXELS = "sweep:fill", "sweep:pixels"


@dataclass(frozen=True)
class DeviceSweep:
    """Two graphs of which only window numbers go in.

    Attributes:
        base: images (b, C, H, W), and fills like them if it ``takes_fill``, to ``kept``; None where the sweep needs
            no base.
        graph: ``kept``, which stays; the numbers of the windows of a run (m,), their places in it, 0 to m - 1, and,
            if there are several images, the number of the image of each.
        kept: what the base puts out and the sweep takes, under the same names.
    """

    base: ir.Model | None
    graph: ir.Model
    kept: tuple[str, ...]

    @property
    def takes_fill(self) -> bool:
        """Whether hidden pixels are read at all."""
        return PIXELS in self.kept


def on_device(sweep: Sweep, windows: IntArray, shapes: Shapes, image: str, together: int = 1) -> DeviceSweep:
    """The same sweep, fed by numbers.

    Args:
        sweep: compiled for these windows; left as it is.
        windows: (M, 4) top, left, height, width.
        shapes: of every value at batch 1.
        image: name of the base graph's input.
        together: b, images that the windows of a run may be of.
    """
    graph = sweep.graph.clone()
    writer = _Writer(graph.graph, windows, together)
    _, channels, height, width = shapes[image]
    pixels = writer.splice.input(PIXELS, ir.DataType.FLOAT, ("P", channels)) if sweep.pictures else None
    for picture in sweep.pictures:
        assert pixels is not None
        writer.picture(picture, pixels, (height, width))  # 2
    for source in sweep.sources:
        for table in source.tables:
            writer.table(table, source)  # 1
    for one in sweep.remainders:
        writer.remainder(one, shapes[one.value])  # 3
    writer.splice.first()
    _unblock(graph.graph)  # 7
    bands = {source.value: source.band for source in sweep.sources}
    sums = {one.value: f"{one.value}@sums" for one in sweep.remainders}
    kept = (*bands.values(), *sums.values(), *(() if pixels is None else (PIXELS,)))
    base = _base(sweep.base, bands, sums, shapes, together, 0 if pixels is None else channels) if kept else None  # 4
    return DeviceSweep(base, graph, kept)


@dataclass(frozen=True)
class _Spot:
    """Of every position of a cut, (m, h, w) or what broadcasts to it.

    Attributes:
        of_map: its row in the map, true where it lies ``within``.
        inner: its line and column in the window, true where it lies ``over`` one in the map.
    """

    of_map: ir.Value
    within: ir.Value
    inner: tuple[ir.Value, ir.Value]
    over: ir.Value

    def index(self, splice: Splice, outside: ir.Value) -> ir.Value:
        """(m, h, w) rows: of the map, or of what is outside."""
        return splice("Where", self.within, self.of_map, outside)


class _Writer:
    """Writes into one sweep graph, before its nodes."""

    def __init__(self, graph: ir.Graph, windows: IntArray, together: int):
        self.graph, self.splice, self._windows = graph, Splice(graph, "sweep"), windows
        self._numbers = self.splice.input(NUMBERS, ir.DataType.INT64, ("M",))
        places = self.splice.input(PLACES, ir.DataType.INT64, ("M",))
        self._places = self.splice("Cast", places, to=int(ir.DataType.INT32))
        self._together, self._owner = together, None
        if together > 1:
            owner = self.splice.input(OWNER, ir.DataType.INT64, ("M",))
            self._owner = self.splice("Cast", owner, to=int(ir.DataType.INT32))

    def table(self, table: Table, source: Source) -> None:
        """Gather every position of a cut from the windows or from the map; see the kernel ``window_index``."""
        splice, cut, count = self.splice, source.cut, self._together * source.size[0] * source.size[1]
        sides = cut.rows.size, cut.columns.size
        window = np.stack(
            [cut.rows.start, cut.columns.start, *(np.full_like(cut.rows.start, side) for side in sides)], axis=1
        )
        spot = self._spot(table.cut, window, source.size)
        first = splice.shaped(splice("Mul", self._places, self._whole(sides[0])), -1, 1, 1)
        line = splice("Mul", splice("Add", first, spot.inner[0]), self._whole(sides[1]))
        of_window = splice("Where", spot.over, splice("Add", line, spot.inner[1]), self._whole(0))
        of_map = spot.index(splice, self._whole(count + FILLERS[table.filler]))
        over = splice.shaped(spot.over, -1, table.cut.rows.size, table.cut.columns.size, 1)
        self._choose(table.input, over, of_window, of_map)  # 6

    def _choose(self, name: str, over: ir.Value, of_window: ir.Value, of_map: ir.Value) -> None:
        """Rows of the windows where they lie over a cut, of the map elsewhere, for what a table takes of both."""
        table = next(value for value in self.graph.inputs if value.name == name)
        (gather,) = (usage.node for usage in table.uses())
        joined = gather.inputs[0].producer() if gather.inputs[0] is not None else None
        assert joined is not None
        band, _, windows = joined.inputs
        parts = [ir.node("Gather", pair, {"axis": 0}) for pair in ((windows, of_window), (band, of_map))]
        chosen = ir.node("Where", [over, *(part.outputs[0] for part in parts)])
        self.graph.insert_before(gather, [*parts, chosen])
        gather.outputs[0].replace_all_uses_with(chosen.outputs[0])
        self.graph.remove(gather, safe=True)
        self.graph.inputs.remove(table)
        if not joined.outputs[0].uses():
            self.graph.remove(joined, safe=True)

    def picture(self, picture: Picture, pixels: ir.Value, size: tuple[int, int]) -> None:
        """The image, the fill where the window lies, the filler outside."""
        count = self._together * size[0] * size[1]
        spot = self._spot(picture.cut, self._windows, size)
        of_fill = self.splice("Add", spot.of_map, self._whole(count))
        of_image = spot.index(self.splice, self._whole(2 * count + FILLERS[picture.filler]))
        index = self.splice("Where", spot.over, of_fill, of_image)
        rows = self.splice("Gather", pixels, index, axis=0)  # (m, h, w, C)
        self.replace(picture.input, self.splice("Transpose", rows, perm=[0, 3, 1, 2]))

    def _spot(self, cut: Cut, windows: IntArray, size: tuple[int, int]) -> _Spot:
        """Where the positions of a cut lie in a map of this size, and in windows (M, 4) over it."""
        rows, columns = (
            self._axis(stretch, windows[:, axis], windows[:, axis + 2], size[axis], shape)
            for axis, (stretch, shape) in enumerate(
                ((cut.rows, (-1, cut.rows.size, 1)), (cut.columns, (-1, 1, cut.columns.size)))
            )
        )
        within, over = (self.splice("And", rows[n], columns[n]) for n in (1, 3))
        over = self.splice("And", over, within)
        of_map = self.splice("Add", self.splice("Mul", rows[0], self._whole(size[1])), columns[0])
        of_map = self._owned(of_map, size[0] * size[1], 3)  # 5
        return _Spot(of_map, within, (rows[2], columns[2]), over)

    def _axis(
        self, cut: Stretch, first: IntArray, side: IntArray, length: int, shape: tuple[int, int, int]
    ) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value]:
        """Along one axis: position in the map, whether it lies in it, position in the window, whether in that."""
        splice, steps = self.splice, np.arange(cut.size, dtype=np.int32)[None]
        start, begin, end = (splice.shaped(self._of_windows(n), -1, 1) for n in (cut.start, first, side))
        position = splice("Add", start, splice.constant(steps))  # (m, n)
        inner, zero = splice("Sub", position, begin), self._whole(0)
        within, over = splice.within(position, zero, self._whole(length)), splice.within(inner, zero, end)
        return tuple(splice.shaped(one, *shape) for one in (position, within, inner, over))  # type: ignore[return-value]

    def remainder(self, one: Remainder, shape: tuple[int, ...]) -> None:
        """(m, C, 1, 1) what the base holds outside the cut."""
        splice, (channels, height, width) = self.splice, shape[1:]
        name = f"{one.value}@sums"
        known = [value for value in self.graph.inputs if value.name == name]
        count = (height + 1) * (width + 1)
        sums = known[0] if known else splice.input(name, ir.DataType.DOUBLE, (self._together * count, channels))
        top, left = one.cut.rows.start, one.cut.columns.start
        bottom, right = top + one.cut.rows.size, left + one.cut.columns.size
        corners = [
            splice("Gather", sums, self._owned(self._of_windows(y * (width + 1) + x), count, 1), axis=0)  # (m, C)
            for y, x in ((bottom, right), (top, right), (bottom, left), (top, left))
        ]
        inside = splice("Add", splice("Sub", splice("Sub", corners[0], corners[1]), corners[2]), corners[3])
        last = splice.constant(np.array([count - 1], np.int32))
        total = splice("Gather", sums, self._owned(last, count, 1), axis=0)  # (1 or m, C)
        outside = splice("Cast", splice("Sub", total, inside), to=int(ir.DataType.FLOAT))
        self.replace(one.input, splice.shaped(outside, -1, channels, 1, 1))

    def _owned(self, rows: ir.Value, each: int, rank: int) -> ir.Value:
        """Rows of the image of every window, from those of an image alone; ``each`` has so many."""
        if self._owner is None:
            return rows
        before = self.splice("Mul", self._owner, self._whole(each))
        return self.splice("Add", rows, self.splice.shaped(before, -1, *[1] * (rank - 1)))

    def replace(self, name: str, found: ir.Value) -> None:
        """Let all readers of an input read this instead; the input goes."""
        value = next(value for value in self.graph.inputs if value.name == name)
        value.replace_all_uses_with(found)
        self.graph.inputs.remove(value)

    def _of_windows(self, numbers: IntArray) -> ir.Value:
        """(m,) int32 of the run's windows, from (M,) of all."""
        return self.splice("Gather", self.splice.constant(numbers.astype(np.int32)), self._numbers, axis=0)

    def _whole(self, number: int) -> ir.Value:
        return self.splice.constant(np.int32(number))  # type: ignore[arg-type]


def _base(
    model: ir.Model, bands: Mapping[str, str], sums: Mapping[str, str], shapes: Shapes, together: int, channels: int
) -> ir.Model:
    """The base graph with what the sweep takes put out.

    These are rows (h * w + fillers, C) for gathering, sums ((h + 1) * (w + 1), C) over rectangles, and the rows of
    pixels if they have ``channels``.
    """
    found = model.clone()
    splice, outputs = Splice(found.graph, "base"), list[ir.Value]()
    values = {str(value.name): value for value in found.graph.outputs}
    for value, name in bands.items():
        rows = _with_fillers(splice, [values[f"{value}@base"]], shapes[value][1])
        outputs.append(_named(rows, name, ir.DataType.FLOAT))
    for value, name in sums.items():
        _, depth, height, width = shapes[value]
        total = splice("Cast", values[f"{value}@base"], to=int(ir.DataType.DOUBLE))
        for axis, zeros in ((1, (together, 1, width, depth)), (2, (together, height + 1, 1, depth))):
            total = splice("CumSum", total, splice.constant(np.int64(axis)))  # type: ignore[arg-type]
            total = splice("Concat", splice.constant(np.zeros(zeros)), total, axis=axis)
        outputs.append(_named(splice.shaped(total, -1, depth), name, ir.DataType.DOUBLE))
    if channels:
        (image,) = found.graph.inputs
        fill = splice.input(FILL, ir.DataType.FLOAT, ("B", channels, "H", "W"))
        given = [splice("Transpose", value, perm=[0, 2, 3, 1]) for value in (image, fill)]
        outputs.append(_named(_with_fillers(splice, given, channels), PIXELS, ir.DataType.FLOAT))
    splice.last()
    found.graph.outputs[:] = outputs
    return found


def _with_fillers(splice: Splice, maps: Sequence[ir.Value], channels: int) -> ir.Value:
    """Rows (n, C) of maps (b, h, w, C), one after the other, and behind them one for each filler."""
    fillers = np.repeat(np.array([list(FILLERS)], np.float32).T, channels, axis=1)
    return splice("Concat", *(splice.shaped(one, -1, channels) for one in maps), splice.constant(fillers), axis=0)


def _unblock(graph: ir.Graph) -> None:
    """Take out poolings of one position."""
    for node in list(graph):
        if str(node.outputs[0].name).endswith(BLOCKED):
            (value,) = node.inputs
            assert value is not None
            node.outputs[0].replace_all_uses_with(value)
            graph.remove(node, safe=True)


def _named(value: ir.Value, name: str, dtype: ir.DataType) -> ir.Value:
    value.name, value.type = name, ir.TensorType(dtype)
    return value
