"""Moving pictures: frames to an animated GIF or an MP4."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from io import BytesIO
from itertools import chain

import numpy as np
from PIL import Image

from sightline.errors import UsageError
from sightline.types import ByteArray

Writer = Callable[[Iterable[ByteArray], BytesIO, int], None]


def film(frames: Iterable[ByteArray], suffix: str, *, rate: int = 12) -> bytes:
    """Frames (H, W, 3) uint8 sRGB of one size as a film; they are taken one by one.

    Args:
        frames: at least one.
        suffix: ``.gif`` loops for ever in 256 colours a frame, ``.mp4`` is H.264 that every browser plays (an odd
            last row or column is left out, as its format demands).
        rate: frames per second, 1 to 50.

    Raises:
        UsageError: another suffix, a rate out of range, no frames, or frames of different sizes.
    """
    writer = WRITERS.get(suffix.lower())
    if writer is None:
        raise UsageError(f"{suffix!r} is no suffix of a film. Accepted: {', '.join(WRITERS)}.")
    if not 1 <= rate <= 50:
        raise UsageError(f"rate={rate} must be 1 to 50 frames per second.")
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        raise UsageError("There are no frames to make a film of.")
    stream = BytesIO()
    writer(_of_one_size(first, rest), stream, rate)
    return stream.getvalue()


def _of_one_size(first: ByteArray, rest: Iterable[ByteArray]) -> Iterator[ByteArray]:
    for frame in chain([first], rest):
        if frame.shape != first.shape or frame.dtype != np.uint8:
            raise UsageError(f"A frame is {frame.shape} {frame.dtype} and the first is {first.shape} uint8.")
        yield frame


def _write_gif(frames: Iterable[ByteArray], stream: BytesIO, rate: int) -> None:
    pictures = (Image.fromarray(frame).quantize(256, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames)
    first = next(pictures)
    hundredths = max(2, round(100 / rate))  # the unit of the format; browsers slow down what is below 2
    first.save(stream, "GIF", save_all=True, append_images=pictures, duration=10 * hundredths, loop=0, disposal=1)


def _write_mp4(frames: Iterable[ByteArray], stream: BytesIO, rate: int) -> None:
    import av

    with av.open(stream, "w", format="mp4") as container:
        track = None
        for frame in frames:
            height, width = (side - side % 2 for side in frame.shape[:2])
            if track is None:
                track = container.add_stream("libx264", rate=Fraction(rate), options={"crf": "18"})
                track.width, track.height, track.pix_fmt = width, height, "yuv420p"
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
            container.mux(track.encode(picture))
        assert track is not None
        container.mux(track.encode())


WRITERS: Mapping[str, Writer] = {".gif": _write_gif, ".mp4": _write_mp4}
