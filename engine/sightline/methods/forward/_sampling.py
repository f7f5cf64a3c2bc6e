"""What methods that draw samples of the image share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sightline.types import FloatArray, Heatmaps, IntArray

BUFFER = 64 << 20  # bytes of masked copies at once
MOST = 64  # copies


@dataclass(frozen=True)
class SampledHeatmaps(Heatmaps):
    """Heatmaps that are means over samples.

    Attributes:
        standard_errors: (B, H, W) float32 of the values.
        counts: (B,) samples used.
    """

    standard_errors: FloatArray = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))
    counts: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))

    def columns(self) -> Mapping[str, Sequence[object]]:
        """Those of heatmaps, the samples used and the mean standard error."""
        errors = [float(one.mean()) for one in self.standard_errors]
        return {**super().columns(), "samples": [int(n) for n in self.counts], "standard_error": errors}


def copies_per_run(image: FloatArray) -> int:
    """Masked copies of one image (C, H, W) that are held at once: a number that depends on its size alone."""
    return max(1, min(MOST, BUFFER // image.nbytes))
