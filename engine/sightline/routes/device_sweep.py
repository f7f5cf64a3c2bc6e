"""Window sweeps on a device: images go in once, then the numbers of windows; only scores come back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sightline.abilities import SweepChunk
from sightline.graph.hide_windows import FILLS, IMAGES, OWNERS, WINDOWS
from sightline.graph.incremental_occlusion.on_device import FILL, IMAGE, NUMBERS, PLACES
from sightline.graph.put_out_score import SCORE, class_inputs
from sightline.routes.batch import halving
from sightline.routes.bound import BoundSession
from sightline.target import Target
from sightline.types import FloatArray, IntArray

TOGETHER = 64  # images on the device at a time: 77 MB of 224 x 224, their fills beside them


class DeviceIncrementalSweep:
    """Feeds a compiled sweep that makes its tables itself.

    Args:
        image: name of the base graph's input.
        run_base: the base graph; None where the sweep needs none.
        run_sweep: the sweep graph with the score as its output.
        takes_image: whether the sweep reads the image and the fill.
    """

    def __init__(self, image: str, run_base: BoundSession | None, run_sweep: BoundSession, *, takes_image: bool):
        self._image, self._run_base, self._run_sweep, self._takes_image = image, run_base, run_sweep, takes_image
        self._held: DeviceBase | None = None

    def base(self, image: FloatArray, fill: FloatArray) -> DeviceBase:
        """Run one image (C, H, W) as it is."""
        made = DeviceBase(image, np.broadcast_to(fill, image.shape))
        self._lay(made)
        return made

    def scores(self, base: DeviceBase, rows: IntArray, target: Target) -> FloatArray:
        """(m,) of some windows; ``target`` is bound to them."""
        if self._held is not base:  # another image came between
            self._lay(base)
        feed = base.values | {NUMBERS: rows.astype(np.int64), PLACES: np.arange(len(rows))}
        return self._run_sweep.run(feed | class_inputs(target, len(rows)))[SCORE]

    def _lay(self, base: DeviceBase) -> None:
        """Bring a base to the device, where there is room for one."""
        base.values = {}
        if self._run_base is not None:
            base.values |= self._run_base.stay({self._image: base.image[None]})
        if self._takes_image:
            for name, array in ((IMAGE, base.image), (FILL, base.fill)):
                base.values[name] = self._run_sweep.hold(name, array[None])
        self._held = base


class DeviceBase:
    """One image of a sweep: the image and the fill (C, H, W), and what lies on the device by input of the sweep."""

    def __init__(self, image: FloatArray, fill: FloatArray):
        self.image, self.fill = image, fill
        self.values: dict[str, Any] = {}


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
            owners = np.repeat(np.arange(group.stop - first), [len(one) for one in rows[group]])  # (n,) of every pass
            hidden = np.concatenate([*rows[group], np.zeros(0, np.int64)])  # (n,) window of every pass
            laid = _Laid(images[group], fills[group])

            def score(chunk: slice, laid: _Laid = laid, owners: IntArray = owners, hidden: IntArray = hidden) -> Any:
                feed = self._lay(laid) | {OWNERS: owners[chunk], WINDOWS: windows[hidden[chunk]]}
                mine = target.take((owners[chunk] + first).tolist())  # noqa: B023  used before the next group
                return self._run.run(feed | class_inputs(mine, chunk.stop - chunk.start))[SCORE]

            for chunk, scores in halving(score, len(owners), max(batch, 1)):
                for owner in dict.fromkeys(owners[chunk].tolist()):
                    of_image = owners[chunk] == owner
                    yield SweepChunk(first + owner, hidden[chunk][of_image], scores[of_image])

    def _lay(self, laid: _Laid) -> dict[str, Any]:
        """Bring images to the device, unless they lie there."""
        if self._held is not laid:
            for name, array in ((IMAGES, laid.images), (FILLS, laid.fills)):
                laid.values[name] = self._run.hold(name, array)
            self._held = laid
        return dict(laid.values)


class _Laid:
    """Images and fills (b, C, H, W) of a sweep, and their values on the device."""

    def __init__(self, images: FloatArray, fills: FloatArray):
        self.images, self.fills = images, fills
        self.values: dict[str, Any] = {}
