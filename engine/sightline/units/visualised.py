"""What a unit likes most, made from nothing, beside what it liked most of a data set."""

from __future__ import annotations

from collections.abc import Sequence

from sightline.errors import NoAscent
from sightline.graph.receptive import ReceptiveField
from sightline.model import Model
from sightline.target import unit
from sightline.types import ByteArray
from sightline.units.patches import crop

STEPS = 128  # of the ascent
FIELDS = 2  # receptive fields across what is shown
LEAST = 32  # pixels across


def visualised(
    network: Model, layer: str, channels: Sequence[int], field: ReceptiveField | None, threads: int | None = None
) -> dict[int, ByteArray]:
    """The middle of a picture (h, w, 3) for each channel that its mean response is highest for.

    A channel that no start moves has none. Two receptive fields are shown, or the whole picture; see
    ``ClassVisualisation``.

    Raises:
        NoRoute: torch is missing, or the graph has no gradients.
    """
    from sightline.ascent.class_pictures import ClassPictures
    from sightline.methods.gradient.class_visualisation import ClassVisualisation

    plan = network.plan(ClassVisualisation(seeds=1, steps=STEPS), threads=threads)
    found = dict[int, ByteArray]()
    for channel in channels:
        try:
            made = plan.run(target=unit(layer, channel))
        except NoAscent:
            continue
        assert isinstance(made, ClassPictures)
        found[channel] = _middle(made.pictures[0], field)
    return found


def _middle(picture: ByteArray, field: ReceptiveField | None) -> ByteArray:
    if field is None:
        return picture
    height, width = (
        min(side, max(LEAST, FIELDS * seen)) for side, seen in zip(picture.shape[:2], field.size, strict=True)
    )
    return crop(picture, ((picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2, height, width))
