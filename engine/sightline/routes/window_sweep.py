"""Which way a window sweep is run: incremental where that is predicted and measured to pay, else dense."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from sightline.abilities import SweepChunk
from sightline.graph.gather_shuffles import GatherShuffles
from sightline.graph.incremental_occlusion import Sweep, SweepPlan, compile_sweep, plan_sweep
from sightline.graph.incremental_occlusion.on_device import on_device
from sightline.graph.incremental_occlusion.rewrite import with_whole_bands
from sightline.graph.put_out_score import SCORE, formula
from sightline.routes.base import Forecast, Settings
from sightline.routes.batch import measured_batch
from sightline.routes.engines import rows_at_most
from sightline.routes.incremental_sweep import IncrementalSweep
from sightline.routes.passes import Passes
from sightline.target import Target
from sightline.types import FloatArray, IntArray

if TYPE_CHECKING:
    from sightline.model import Model
    from sightline.routes.device_sweep import DeviceIncrementalSweep
    from sightline.routes.ort import OrtOracle

REWRITE = "incremental_occlusion"
WORTH = 1.1  # predicted speed-up from which the rewrite is tried
SURE = 1.6  # predicted speed-up from which it is not compared with the dense sweep by measuring; predicted for a CPU
TRIALS = 2  # measurements that must find it slower than the dense sweep, against its prediction
BRIEF = 2.0  # seconds of predicted work below which nothing is measured
LARGEST = 128  # windows per run
SMALL = 16  # windows per run where that is not measured: within 2 % of the best for SqueezeNet and ResNet-18
FULL, LARGEST_ON_DEVICE = 256, 2048  # the same two on a device, which more windows fill
LIVE = 3  # times the widest node's numbers that a run holds at once


def obstacles(model: Model) -> list[str]:
    """Why the sweep of a model cannot be rewritten at all."""
    port = model.input
    reasons: list[str] = []
    if port.batch is not None:
        reasons.append(f"the graph takes {port.batch} images per run only")
    if port.layout != "NCHW":
        reasons.append("the graph takes images as NHWC")
    if port.dtype != np.float32:
        reasons.append(f"the graph takes {port.dtype} pixels")
    return reasons


def forecast(
    model: Model, settings: Settings, windows: IntArray, names: tuple[str, ...], tolerance: float
) -> Forecast:
    """What a sweep over these windows is predicted to cost per image, and how it will be run."""
    reasons = [] if settings.sweep == "dense" else obstacles(model)
    if reasons or len(windows) == 0 or settings.sweep == "dense":
        macs = model.layers.macs * (len(windows) + 1)
        return Forecast(None, macs, 1.0, 1.0, tuple(reasons))
    return _forecast(sweep_plan(model, windows, names, tolerance), settings)


def _forecast(plan: SweepPlan, settings: Settings) -> Forecast:
    chosen = settings.sweep == "incremental" or plan.speed_up >= WORTH
    if not chosen:
        slow = f"predicted to be {plan.speed_up:.2f} times as fast as dense, worth it from {WORTH}"
        return Forecast(None, int(plan.dense.macs * (plan.windows + 1)), plan.speed_up, plan.ceiling, (slow,))
    macs = int(plan.cost.macs * plan.windows + plan.dense.macs)
    return Forecast(REWRITE, macs, plan.speed_up, plan.ceiling, ())


def sweepable(model: Model, names: tuple[str, ...]) -> ir.Model:
    """The graph that sweeps are rewritten from: shuffles gathered, unless somebody reads a value within one."""
    gathered = GatherShuffles(model.layers.shapes)(model.folded)
    made = {value.name for node in gathered.graph for value in node.outputs}
    return gathered if made.issuperset(names) else model.folded


def sweep_plan(model: Model, windows: IntArray, names: tuple[str, ...], tolerance: float = 0.0) -> SweepPlan:
    """The best plan for a model whose sweep can be rewritten; the last one is kept with the model."""
    key = (windows.tobytes(), names, tolerance)
    if key not in model.sweep_plans:
        model.sweep_plans.clear()
        model.sweep_plans[key] = plan_sweep(sweepable(model, names), model.layers.shapes, windows, names, tolerance)
    return model.sweep_plans[key]


@dataclass(frozen=True)
class SweepOutline:
    """What a sweep is predicted to be, layer by layer.

    Attributes:
        windows: M.
        computed: height and width that one window computes, by layer; layers left out are computed whole.
        speed_up, ceiling: against dense, predicted and by multiply-accumulates alone.
        bytes: of activations, at the batch that is used where none is measured.
        reasons: why it will run dense, if it will.
    """

    windows: int
    computed: Mapping[str, tuple[int, int]]
    speed_up: float
    ceiling: float
    bytes: int
    reasons: tuple[str, ...]


def sweep_outline(model: Model, windows: IntArray) -> SweepOutline:
    """Of the class scores, over these windows."""
    reasons = obstacles(model)
    if reasons:
        return SweepOutline(len(windows), {}, 1.0, 1.0, 0, tuple(reasons))
    plan = sweep_plan(model, windows, (model.logits_name,))
    computed = {name: (cut.rows.size, cut.columns.size) for name, cut in plan.cuts.items()}
    taken = 4 * (plan.kept + SMALL * LIVE * plan.live)
    said = _forecast(plan, Settings()).reasons
    return SweepOutline(len(windows), {} if said else computed, plan.speed_up, plan.ceiling, taken, said)


@dataclass
class OpenedSweep:
    """A compiled sweep with its sessions, and its batch once that is settled."""

    plan: SweepPlan
    sweep: IncrementalSweep | DeviceIncrementalSweep
    batch: int | None

    def base(self, images: FloatArray, fills: FloatArray) -> Any:
        """What is computed once of images (b, C, H, W), at most ``sweep.together``."""
        return self.sweep.base(images, fills)

    def scores(self, base: Any, owners: IntArray, rows: IntArray, target: Target) -> FloatArray:
        """(m,) of some windows of the images that the base is of; whose each is, ``owners`` says."""
        return self.sweep.scores(base, owners, rows, target)


class WindowSweeps:
    """The sweeps of one oracle; the last one compiled is kept, for the next image.

    Args:
        oracle: whose graph, settings and dense passes are used.
    """

    def __init__(self, oracle: OrtOracle):
        self._oracle = oracle
        self._opened: tuple[tuple[object, ...], OpenedSweep | None] | None = None

    def opened(
        self, windows: IntArray, target: Target, tolerance: float, passes: int, images: int
    ) -> OpenedSweep | None:
        """The incremental sweep, ready for so many passes; None where the dense one is to be taken."""
        names = self._oracle.names_of(target)
        wanted = names if self._oracle.bound_to is None else formula(target)
        key = (windows.tobytes(), wanted, tolerance)
        found = self._opened[1] if self._opened is not None and self._opened[0] == key else None
        fewer = found is not None and found.sweep.together < self._together(found.plan, images)
        if self._opened is None or self._opened[0] != key or fewer:
            self._opened = (key, self._open(windows, target, tolerance, images))
        found = self._opened[1]
        if found is not None and found.batch is None and not self._settled(found, target, passes):
            self._opened = (key, None)
            return None
        return found

    @property
    def usual_batch(self) -> int:
        """Windows per run where that is not measured."""
        return SMALL if self._oracle.bound_to is None else FULL

    def run(
        self,
        opened: OpenedSweep,
        images: FloatArray,
        fill: FloatArray,
        target: Target,
        rows: Sequence[IntArray],
    ) -> Iterator[SweepChunk]:
        """Scores of every image with each of its windows hidden in turn."""
        fills, together = np.broadcast_to(fill, images.shape), opened.sweep.together
        for first in range(0, len(images), together):
            group = slice(first, min(first + together, len(images)))
            base = opened.base(images[group], fills[group])

            def score(owners: IntArray, hidden: IntArray, base: Any = base, first: int = first) -> FloatArray:
                return opened.scores(base, owners, hidden, target.take((owners + first).tolist()))

            yield from Passes(rows[group], first).run(score, opened.batch or SMALL)

    def close(self) -> None:
        """Release the sessions."""
        self._opened = None

    def _open(self, windows: IntArray, target: Target, tolerance: float, images: int) -> OpenedSweep | None:
        oracle, names = self._oracle, self._oracle.names_of(target)
        model, settings = oracle.model, oracle.settings
        if settings.sweep == "dense" or obstacles(model) or not oracle.codes.isdisjoint(names):
            return None
        plan = sweep_plan(model, windows, names, tolerance)
        if _forecast(plan, settings).rewrite is None:
            return None
        compiled = compile_sweep(sweepable(model, names), model.layers.shapes, plan, names)
        if oracle.bound_to is not None:
            on_device = self._on_device(compiled, windows, target, self._together(plan, images))
            return OpenedSweep(plan, on_device, settings.batch)
        whole = settings.device == "tensorrt"  # an engine is built for sizes that are known
        compiled = with_whole_bands(compiled) if whole else compiled
        based = tuple(f"{name}@base" for name in compiled.based)
        run_base = oracle.runner(compiled.base, based) if based else None
        run_sweep = oracle.runner(compiled.graph, names)
        sweep = IncrementalSweep(compiled, windows, model.input.name, run_base, run_sweep, oracle.values, whole=whole)
        return OpenedSweep(plan, sweep, settings.batch)

    def _together(self, plan: SweepPlan, images: int) -> int:
        """Images whose windows share runs: on a device as many as fill one, if there are as many."""
        settings = self._oracle.settings
        if self._oracle.bound_to is None:
            return 1
        filling = -(-(settings.batch or LARGEST_ON_DEVICE) // max(1, plan.windows))
        return max(1, min(images, filling, settings.memory // 4 // max(1, plan.kept)))

    def _on_device(self, compiled: Sweep, windows: IntArray, target: Target, together: int) -> DeviceIncrementalSweep:
        """The same sweep where only numbers of windows go in, and scores come out."""
        from sightline.routes.device_sweep import DeviceIncrementalSweep

        model, oracle = self._oracle.model, self._oracle
        made = on_device(compiled, windows, model.layers.shapes, model.input.name, together)
        run_base = None if made.base is None else oracle.bound(made.base, made.kept)
        run_sweep = oracle.bound(oracle.scoring(made.graph, target), (SCORE,), captured=True)
        return DeviceIncrementalSweep(model.input.name, together, run_base, run_sweep, takes_fill=made.takes_fill)

    def _settled(self, opened: OpenedSweep, target: Target, rows: int) -> bool:
        """Settle the batch; False if the sweep was measured to be slower than the dense one."""
        plan, settings = opened.plan, self._oracle.settings
        many, few = (LARGEST, SMALL) if self._oracle.bound_to is None else (LARGEST_ON_DEVICE, FULL)
        if settings.device == "tensorrt":
            many = min(many, rows_at_most(settings.batch))
        together = opened.sweep.together
        room = settings.memory // 4 - together * plan.kept
        largest = max(1, min(many, together * plan.windows, room // max(1, LIVE * plan.live)))
        if plan.cost.seconds * rows < BRIEF:
            opened.batch = min(few, largest)
            return True

        def trial() -> Callable[[int], object]:
            noise = self._oracle.noise(together)
            base = opened.base(noise, np.zeros_like(noise))

            def run(batch: int) -> object:
                owners, hidden = np.divmod(np.arange(batch), plan.windows)
                return opened.scores(base, owners, hidden, target.take([0] * batch))

            return run

        for _ in range(TRIALS):
            measured = measured_batch(trial, largest)
            opened.batch = measured.batch
            sure = settings.sweep == "incremental" or (plan.speed_up >= SURE and self._oracle.bound_to is None)
            if sure or measured.seconds < self._oracle.measured.seconds:
                return True
        return False
