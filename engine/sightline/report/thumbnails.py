"""Small pictures of files, for pages that show many."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
from PIL import Image

from sightline.errors import BadImage
from sightline.image import encode_webp, read_image
from sightline.types import ByteArray


def thumbnail(path: str, side: int) -> ByteArray | None:
    """(h, w, 3) of an image file, its longer side at most so many pixels; None where it is gone or no image."""
    try:
        image = read_image(Path(path).read_bytes()) if path else None
    except (OSError, BadImage):
        return None
    if image is None:
        return None
    picture = image.convert("RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def inline(pixels: ByteArray, *, quality: int = 80) -> str:
    """A data URI of a picture (h, w, 3)."""
    return f"data:image/webp;base64,{base64.b64encode(encode_webp(pixels, quality=quality)).decode()}"
