"""One pass of a data set through the network, several layers at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from sightline.abilities import Taps
from sightline.errors import BadImage, NoImages
from sightline.job.inputs import Input, Load, Loaded
from sightline.job.prefetch import prefetch
from sightline.units.strongest import Strongest

DECODERS = 2


@dataclass(frozen=True)
class Survey:
    """What a pass found.

    Attributes:
        layers: by the name that was asked for.
        inputs: that were seen, in order; peaks count these.
        set_aside: inputs that could not be read, and why.
        stopped: an interrupt ended it early; what there is stands.
    """

    layers: dict[str, Strongest]
    inputs: tuple[Input, ...]
    set_aside: tuple[tuple[str, str], ...]
    stopped: bool


def survey(
    oracle: Taps,
    inputs: Sequence[Input],
    load: Load,
    layers: Sequence[str],
    *,
    k: int,
    batch: int,
    per_image: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Survey:
    """Keep the k strongest positions of every channel of the layers.

    Raises:
        NoImages: none could be read.
    """
    found = {layer: Strongest(k, per_image) for layer in layers}
    seen, aside, group = list[Input](), list[tuple[str, str]](), list[Loaded]()
    stopped = False

    def finish() -> None:
        maps = oracle.taps(np.stack([one.tensor for one in group]), layers)
        for layer in layers:
            found[layer].add(maps[layer])
        group.clear()
        if progress is not None:
            progress(len(seen) + len(aside))

    with closing(prefetch(inputs, load, threads=DECODERS, ahead=2 * batch)) as loaded:
        try:
            for one, made in loaded:
                if isinstance(made, BadImage):
                    aside.append((one.id, str(made)))
                    continue
                seen.append(one)
                group.append(made)
                if len(group) == batch:
                    finish()
            if group:
                finish()
        except KeyboardInterrupt:
            stopped = True
    if not any(one.seen for one in found.values()):
        raise NoImages(f"None of the {len(inputs)} images could be read.")
    return Survey(found, tuple(seen), tuple(aside), stopped)
