"""AdversarialExamples: each image, what was added to it, and what the network says before and after."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from sightline.colour import number
from sightline.report.panel import Panel, enlarge, method_name
from sightline.types import ByteArray, FloatArray, IntArray, Result

GREY, FULL = 128, 127  # no change, and as far as one is drawn


class AdversarialExamples(Result, Protocol):
    """What is read of the result: pictures (B, H, W, 3) before and after, and (B,) facts of each."""

    @property
    def values(self) -> ByteArray: ...
    @property
    def originals(self) -> ByteArray: ...
    @property
    def classes(self) -> tuple[int | None, ...]: ...
    @property
    def aim(self) -> str: ...
    @property
    def before(self) -> IntArray: ...
    @property
    def after(self) -> IntArray: ...
    @property
    def confidence_before(self) -> FloatArray: ...
    @property
    def confidence_after(self) -> FloatArray: ...
    @property
    def linf(self) -> FloatArray: ...
    @property
    def l2(self) -> FloatArray: ...
    @property
    def share(self) -> FloatArray: ...
    def outcome(self, row: int) -> str: ...
    def similarity(self, row: int) -> float: ...
    def label(self, index: int) -> str: ...


def panels(result: AdversarialExamples, row: int | None) -> Iterator[Panel]:
    """One sheet: the original, the change made visible, the adversarial picture."""
    if row is None:
        return
    before, after = result.originals[row], result.values[row]
    change, factor = amplified(before, after)
    said = [
        f"{result.label(int(index))} {chance:.3f}"
        for index, chance in (
            (result.before[row], result.confidence_before[row]), (result.after[row], result.confidence_after[row])
        )
    ]  # fmt: skip
    labels = (f"original: {said[0]}", f"change × {factor}", f"adversarial: {said[1]}")
    cells = tuple(zip(map(enlarge, (before, change, after)), labels, strict=True))
    caption = (
        f"{_outcome(result, row)} The network says {said[0]} of the original and {said[1]} of the picture on the "
        "right, read back from a PNG of 8 bits. "
        f"The largest change of a pixel value is {number(float(result.linf[row]))} of 255; the change's Euclidean "
        f"length is {number(float(result.l2[row]))}, {100 * result.share[row]:.2g} % of the image's; structural "
        f"similarity {result.similarity(row):.4f}. In the middle, grey is no change, and a change by one pixel value "
        f"is drawn {factor} values brighter or darker."
    )
    alt = f"{result.photos[row].id}, the change magnified {factor} times, and the adversarial picture"
    title = method_name(result, "Adversarial example")
    yield Panel(title, caption, alt, cells=cells, target=result.classes[row])


def amplified(before: ByteArray, after: ByteArray) -> tuple[ByteArray, int]:
    """The change (H, W, 3) about middle grey, magnified by the largest whole factor that shows it all; and that."""
    change = after.astype(np.int64) - before
    factor = max(FULL // max(int(np.abs(change).max(initial=0)), 1), 1)
    return np.clip(GREY + factor * change, 0, 255).astype(np.uint8), factor


def _outcome(result: AdversarialExamples, row: int) -> str:
    index = result.classes[row]
    name = "" if index is None else result.label(index)
    aim = {"reach": f"to reach {name}", "leave": f"to leave {name}"}.get(result.aim, "to make the formula positive")
    return {
        "fooled": f"The aim was {aim}: fooled.",
        "already": f"The aim was {aim}, which the original does: it was left alone.",
        "no gradient": f"The aim was {aim}, but the gradient is 0 everywhere: nothing could be tried.",
    }.get(result.outcome(row), f"The aim was {aim}: not fooled.")
