"""What a style network paints, judged as a descent's paintings are."""

from __future__ import annotations

import time

import numpy as np

from sightline.abilities import Differentiable
from sightline.ascent.paintings import Paintings
from sightline.methods.gradient.style_transfer import StyleTransfer
from sightline.styles.stylist import Stylist
from sightline.types import Batch, ByteArray, Provenance


def one_pass(
    stylist: Stylist, shown: ByteArray, method: StyleTransfer, oracle: Differentiable, images: Batch
) -> Paintings:
    """Paintings of B pictures in one pass each, with the losses that a descent would have lowered.

    Args:
        stylist: paints.
        shown: (B, H, W, 3) pictures.
        method: whose losses judge, of the same style.
        oracle: runs the network that judges.
        images: the pictures' photographs, whose content is to stay.
    """
    stylist.paint(list(shown[:1]))  # opens the network
    start = time.perf_counter()
    made = np.array(stylist.paint(list(shown)), np.uint8).reshape(shown.shape)
    seconds = time.perf_counter() - start
    before, _ = method.judge(oracle, images, shown)
    after, content = method.judge(oracle, images, made)
    count, none = len(shown), np.zeros(len(shown), np.int64)
    nothing = np.zeros((count, 0), np.float32)
    return Paintings(
        values=made.astype(np.float32), photos=images.photos, style_before=before, style_after=after,
        content_after=content, style_history=nothing, content_history=nothing,
        frames=np.zeros((count, 0, *shown.shape[1:]), np.uint8), stopped=none, diverged=none,
        provenance=Provenance(
            method=f"style apply ({stylist.style.name})", target="", model=stylist.style.name,
            plan=f"{stylist.settings.device}, in one pass", seconds=seconds,
        ),
    )  # fmt: skip
