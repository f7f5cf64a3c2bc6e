"""Decides what of every value is computed for a window, by the predicted cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from sightline.graph.incremental_occlusion.cost import Cost, floats, gather_cost, node_cost, table_cost
from sightline.graph.incremental_occlusion.cut import Change, Cut, whole
from sightline.graph.incremental_occlusion.growth import EVERYTHING, Growth, growth
from sightline.graph.layers import Shapes
from sightline.types import IntArray

SHARES = (0.35, 0.5, 0.65, 0.8, 0.95)  # of a map; beyond the chosen one the rest runs on whole maps


@dataclass(frozen=True)
class Step:
    """One node that depends on the image.

    Attributes:
        node: of the graph.
        growth: what it does to a change.
        sources: names of its inputs that depend on the image.
        name: of its first output.
    """

    node: ir.Node
    growth: Growth
    sources: tuple[str, ...]
    name: str


@dataclass(frozen=True)
class SweepPlan:
    """What of every value is computed for each window.

    Attributes:
        steps: nodes that depend on the image, in order.
        cuts: of every value that is computed in part; every other one is computed whole.
        gathered: by value, the cuts of it that have to be assembled from its own and the base.
        cost: of one window.
        dense: of the whole network.
        windows: M.
        live: floats that the widest node of the sweep reads and writes for one window.
        kept: floats of the base that stay for one image.
    """

    steps: tuple[Step, ...]
    cuts: Mapping[str, Cut]
    gathered: Mapping[str, tuple[Cut, ...]]
    cost: Cost
    dense: Cost
    windows: int
    live: int
    kept: int

    @property
    def speed_up(self) -> float:
        """Predicted, against running the whole network for every window."""
        return self.dense.seconds * self.windows / (self.cost.seconds * self.windows + self.dense.seconds)

    @property
    def ceiling(self) -> float:
        """What the multiply-accumulates alone would allow."""
        return self.dense.macs * self.windows / (self.cost.macs * self.windows + self.dense.macs)


class Planner:
    """Tries plans for one graph, input size and set of windows.

    Args:
        model: NCHW, batch free, opened normalisation folded.
        shapes: of every value at batch 1.
        windows: (M, 4) top, left, height, width inside the image.
        outputs: names of the values that the sweep puts out.
        tolerance: share of every map, along each axis, that changes are not followed into.
    """

    def __init__(
        self, model: ir.Model, shapes: Shapes, windows: IntArray, outputs: tuple[str, ...], tolerance: float
    ):
        self._followed = 1 - tolerance
        self._shapes, self._count, self._outputs = shapes, len(windows), outputs
        self._image = str(model.graph.inputs[0].name)
        self._steps = _steps(model, shapes, self._image, outputs)
        self._changes = self._grown(windows)
        self._makers = {str(value.name): step for step in self._steps for value in step.node.outputs}
        self._readers: dict[str, list[Step]] = {}
        for step in self._steps:
            for name in step.sources:
                self._readers.setdefault(name, []).append(step)

    def best(self) -> SweepPlan:
        """The plan of least predicted cost."""
        plans = [self._widened(share) for share in SHARES]
        return min(plans, key=lambda plan: plan.cost.seconds)

    @cached_property
    def dense(self) -> Cost:
        """Of the whole network."""
        return sum((node_cost(step.node, self._shapes) for step in self._steps), Cost())

    def _grown(self, windows: IntArray) -> dict[str, Change]:
        """What changes of every value whose changes have places."""
        size = self._shapes[self._image][2:]
        changes = {self._image: Change.of_windows(windows, (size[0], size[1]))}
        for step in self._steps:
            if step.growth.kind not in ("positionwise", "sliding") or any(n not in changes for n in step.sources):
                continue
            total = changes[step.sources[0]]
            for name in step.sources[1:]:
                total = total.joined(changes[name])
            size = self._shapes[step.name][2:]
            if step.growth.kind == "sliding":
                total = total.through(step.growth.slides, (size[0], size[1])).capped(self._followed)
            changes |= {str(value.name): total for value in step.node.outputs}
        return changes

    def _widened(self, share: float) -> SweepPlan:
        """The plan that turns to whole maps beyond a share of them, with values widened where that saves a gather."""
        cuts = self._cuts(share)
        plan = self._plan(cuts)
        for step in reversed(self._steps):
            for demanded in plan.gathered.get(step.name, ()):
                trial = self._plan(self._pushed(step, demanded, cuts))
                if trial.cost.seconds < plan.cost.seconds:
                    plan, cuts = trial, dict(trial.cuts)
        return plan

    def _pushed(self, step: Step, cut: Cut, cuts: dict[str, Cut]) -> dict[str, Cut]:
        """The cuts with one value, and those before it that nothing else reads, computed on a wider cut."""
        wider = dict(cuts)
        pending = [(step, cut)]
        while pending:
            one, cut = pending.pop()
            change = self._changes[one.name]
            if not (cut.lies_within(change.size) and cut.holds(change)) or cut.positions == math.prod(change.size):
                continue  # a kernel of one position and stride 2, for one, reads less than what changes
            wider |= {str(value.name): cut for value in one.node.outputs}
            if one.growth.keeps_place:
                alone = [name for name in one.sources if len(self._readers[name]) == 1 and name in self._makers]
                pending += [(self._makers[name], cut) for name in alone if name in cuts]
        return wider

    def _cuts(self, share: float) -> dict[str, Cut]:
        """The smallest cuts, a value that only a positionwise node reads being computed where that node is."""
        cuts: dict[str, Cut] = {}
        for name, change in self._changes.items():
            step = self._makers.get(name)
            reached = step is not None and all(source in cuts for source in step.sources)
            cut = change.cut()
            if step is None or (reached and cut.positions < share * change.size[0] * change.size[1]):
                cuts[name] = cut
        for step in reversed(self._steps):
            if step.name in cuts and step.growth.keeps_place:
                for name in step.sources:
                    alone = name in self._makers and len(self._makers[name].node.outputs) == 1  # a Split has one cut
                    if alone and len(self._readers[name]) == 1:
                        cuts[name] = cuts[step.name]
        return cuts

    def _plan(self, cuts: dict[str, Cut]) -> SweepPlan:
        gathered: dict[str, list[Cut]] = {}
        cost, live = Cost(), 0
        for step in self._steps:
            share = self._share(step.name, cuts)
            cost += node_cost(step.node, self._shapes, share)
            read = 0.0
            for name, needed in self._needs(step, cuts):
                if name in cuts and not needed.equals(cuts[name]):
                    _demand(gathered, name, needed)
                read += self._channels(name) * needed.positions
            live = max(live, int(read + floats(step.node, self._shapes) * share))
        for name in self._outputs:
            if name in cuts:
                _demand(gathered, name, whole(self._changes[name].size, self._count))
        inner = {name: tuple(targets) for name, targets in gathered.items() if name != self._image}
        for name, targets in inner.items():
            cost += table_cost(self._channels(name), cuts[name].positions)
            for target in targets:
                cost += gather_cost(self._channels(name), target.positions)
        kept = sum(math.prod(self._shapes[name]) for name in inner)
        return SweepPlan(self._steps, cuts, inner, cost, self.dense, self._count, live, kept)

    def _needs(self, step: Step, cuts: Mapping[str, Cut]) -> Iterator[tuple[str, Cut]]:
        """What a node reads of its inputs that have positions."""
        cut = cuts.get(step.name)
        for name in step.sources:
            if name not in self._changes:
                continue
            if cut is not None:
                yield name, cut if step.growth.keeps_place else cut.read_by(step.growth.slides)
            elif step.growth.kind == "mean" and name in cuts:
                yield name, cuts[name]  # updated by the difference: nothing is gathered
            else:
                yield name, whole(self._changes[name].size, self._count)

    def _share(self, name: str, cuts: Mapping[str, Cut]) -> float:
        """Of its positions that a value is computed on."""
        if name not in cuts:
            return 1.0
        height, width = self._changes[name].size
        return cuts[name].positions / (height * width)

    def _channels(self, name: str) -> int:
        return self._shapes[name][1]


def _demand(gathered: dict[str, list[Cut]], name: str, cut: Cut) -> None:
    """Note a cut that has to be gathered, once."""
    known = gathered.setdefault(name, [])
    if not any(one.equals(cut) for one in known):
        known.append(cut)


def _steps(model: ir.Model, shapes: Shapes, image: str, outputs: tuple[str, ...]) -> tuple[Step, ...]:
    """The nodes between the image and the outputs."""
    needed, wanted = set[ir.Node](), set(outputs)
    for node in reversed(list(model.graph)):
        if any(str(value.name) in wanted for value in node.outputs):
            needed.add(node)
            wanted.update(str(value.name) for value in node.inputs if value is not None)
    changing, steps = {image}, list[Step]()
    for node in model.graph:
        sources = tuple(dict.fromkeys(str(v.name) for v in node.inputs if v is not None and str(v.name) in changing))
        if node in needed and sources:
            changing.update(str(value.name) for value in node.outputs)
            known = all(name in shapes for name in (*sources, str(node.outputs[0].name)))
            grown = growth(node, shapes, changing) if known else EVERYTHING
            steps.append(Step(node, grown, sources, str(node.outputs[0].name)))
    return tuple(steps)
