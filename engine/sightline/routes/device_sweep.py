"""Window sweeps on a device: images go in once, then the numbers of windows; only scores come back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sightline.abilities import SweepChunk
from sightline.graph.hide_windows import FILLS, IMAGES, OWNERS, WINDOWS
from sightline.graph.incremental_occlusion.on_device import FILL, NUMBERS, OWNER, PLACES
from sightline.graph.put_out_score import SCORE, class_inputs
from sightline.routes.bound import BoundSession
from sightline.routes.passes import Passes
from sightline.target import Target
from sightline.types import FloatArray, IntArray

TOGETHER = 64  # images on the device at a time: 77 MB of 224 x 224, their fills beside them


class DeviceIncrementalSweep:
    """Feeds a compiled sweep that makes its tables itself.

    Args:
        image: name of the base graph's input.
        together: images whose windows share runs, for which the graphs are written.
        run_base: the base graph; None where the sweep needs none.
        run_sweep: the sweep graph with the score as its output.
        takes_fill: whether the base takes fills beside images.
    """

    def __init__(
        self,
        image: str,
        together: int,
        run_base: BoundSession | None,
        run_sweep: BoundSession,
        *,
        takes_fill: bool,
    ):
        self.together = together
        self._image, self._run_base, self._run_sweep, self._takes_fill = image, run_base, run_sweep, takes_fill
        self._held: Laid | None = None

    def base(self, images: FloatArray, fills: FloatArray) -> Laid:
        """Run images (b, C, H, W) as they are, at most ``together``."""
        missing = self.together - len(images)  # the graphs take so many: the last one stands in
        made = Laid(*(np.concatenate([one, *[one[-1:]] * missing]) for one in (images, fills)))
        self._lay(made)
        return made

    def scores(self, base: Laid, owners: IntArray, rows: IntArray, target: Target) -> FloatArray:
        """(m,) of some windows, each of the image of its owner; ``target`` is bound to them."""
        if self._held is not base:  # other images came between
            self._lay(base)
        feed = base.values | {NUMBERS: rows.astype(np.int64), PLACES: np.arange(len(rows))}
        if self.together > 1:
            feed[OWNER] = owners.astype(np.int64)
        return self._run_sweep.run(feed | class_inputs(target, len(rows)))[SCORE]

    def _lay(self, base: Laid) -> None:
        """Bring a base to the device, where there is room for one."""
        base.values = {}
        if self._run_base is not None:
            fills = {FILL: base.fills} if self._takes_fill else {}
            base.values |= self._run_base.stay({self._image: base.images} | fills)
        self._held = base


class DeviceDenseSweep:
    """Runs the whole network for every window, which the graph hides.

    Args:
        run: the graph that hides windows and puts out the score.
    """

    def __init__(self, run: BoundSession):
        self._run = run
        self._held: object = None

    def __call__(
        self,
        images: FloatArray,
        windows: IntArray,
        fill: FloatArray,
        target: Target,
        batch: int,
        rows: Sequence[IntArray],
    ) -> Iterator[SweepChunk]:
        """Scores of every image with each of its windows hidden in turn; see ``dense_sweep``."""
        fills = np.broadcast_to(fill, images.shape)
        for first in range(0, len(images), TOGETHER):
            group = slice(first, min(first + TOGETHER, len(images)))
            laid = Laid(images[group], fills[group])

            def score(owners: IntArray, hidden: IntArray, laid: Laid = laid, first: int = first) -> FloatArray:
                feed = self._lay(laid) | {OWNERS: owners, WINDOWS: windows[hidden]}
                mine = target.take((owners + first).tolist())
                return self._run.run(feed | class_inputs(mine, len(owners)))[SCORE]

            yield from Passes(rows[group], first).run(score, batch)

    def _lay(self, laid: Laid) -> dict[str, Any]:
        """Bring images to the device, unless they lie there."""
        if self._held is not laid:
            for name, array in ((IMAGES, laid.images), (FILLS, laid.fills)):
                laid.values[name] = self._run.hold(name, array)
            self._held = laid
        return dict(laid.values)


class Laid:
    """Images and fills (b, C, H, W) of a sweep, and their values on the device."""

    def __init__(self, images: FloatArray, fills: FloatArray):
        self.images, self.fills = images, fills
        self.values: dict[str, Any] = {}
