"""Photographs in, pictures out: finding files, decoding them whatever their kind, encoding arrays."""

from __future__ import annotations

import glob
import os
import threading
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from sightline.errors import BadImage, NoImages
from sightline.types import ByteArray

# Raster formats that Pillow decodes by itself; EPS and its like would start an interpreter on untrusted input.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000")
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2"),
)
PIXEL_LIMIT = 178_956_970  # pixels; 512 MiB of RGB, Pillow's own line for an attack

_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {  # its value -> what turns the stored pixels upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WARNINGS = threading.Lock()  # Python's warning filters belong to the process: one thread at a time may change them


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Every image that files, folders and glob patterns name, in the order given and sorted within each.

    A file named outright is taken whatever its suffix. Folders are searched all the way down, through links, for
    `SUFFIXES` in either case; names that begin with a dot are passed over. A file named twice comes once.

    Raises:
        NoImages: a path does not exist, a pattern matches nothing, or all of them together hold no image.
    """
    given = [str(path) for path in paths]
    found: dict[str, Path] = {}
    for path in walk_images(given):
        found.setdefault(os.path.abspath(path), Path(path))  # noqa: PTH100 - resolve() would merge two links to one file
    if not found:
        raise no_image(given)
    return list(found.values())


def no_image(paths: Iterable[str | Path]) -> NoImages:
    """What to raise where paths hold none."""
    given = ", ".join(repr(str(path)) for path in paths) or "an empty list of paths"
    return NoImages(
        f"No image was found in {given}. Files with these suffixes are looked for: {' '.join(SUFFIXES)}. Name a file "
        "outright to take it whatever its suffix."
    )


def walk_images(paths: Iterable[str | Path]) -> Iterator[str]:
    """What ``find_images`` gives, as it is found and therefore in little memory; a file named twice comes twice.

    Raises:
        NoImages: a path does not exist, or a pattern matches nothing.
    """
    for path in paths:
        yield from _expand(str(path))


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image."""
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def _expand(name: str) -> Iterator[str]:
    path = Path(name)
    if path.is_dir():
        yield from _search(name, set())
    elif path.exists():
        yield name
    else:
        matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - absolute patterns too
        if not matches:
            kind = "No file or folder matches the pattern" if glob.has_magic(name) else "There is no file or folder"
            raise NoImages(
                f"{kind} {name!r}. Give image files, folders or quoted glob patterns such as 'photos/**/*.jpg'."
            )
        for match in matches:
            if Path(match).is_dir():
                yield from _search(match, set())
            elif is_image(Path(match).name):
                yield match


def _search(folder: str, visited: set[str]) -> Iterator[str]:
    """Images below a folder, sorted by the parts of their paths; a link may lead back up: each is entered once."""
    real = os.path.realpath(folder)
    if real in visited:
        return
    visited.add(real)
    with suppress(OSError):  # a folder that may not be read is passed over, as by find
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries)
        for name, is_folder in found:
            if is_folder and not name.startswith("."):
                yield from _search(os.path.join(folder, name), visited)  # noqa: PTH118 - a million of these
            elif not is_folder and is_image(name):
                yield os.path.join(folder, name)  # noqa: PTH118


def read_image(
    source: Path | bytes,
    *,
    channels: Literal["RGB", "L"] = "RGB",
    pixel_limit: int = PIXEL_LIMIT,
    name: str | None = None,
) -> Image.Image:
    """Decode one photograph to 8 bits a channel, upright, without transparency.

    EXIF orientation is applied; transparency is laid on white; of an animation the first frame is taken; 16-bit
    grey is rounded to 8 bits (65535 becomes 255) and 16-bit colour keeps its high byte; CMYK is converted without a
    profile. Embedded colour profiles are not applied, as in the pipelines that networks are trained with.

    Args:
        source: a file, or the bytes of one.
        channels: "RGB", or "L" for one channel of luminance (ITU-R 601).
        pixel_limit: a larger width times height is refused before anything is decoded; at most `PIXEL_LIMIT`.
        name: what errors call the image; the file's path unless given.

    Raises:
        BadImage: the source cannot be read, is no image, is damaged, or is larger than ``pixel_limit``.
    """
    if name is None:
        name = f"An image of {len(source)} bytes" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else _read_bytes(source)
    if not data:
        raise BadImage(f"{name} is empty (0 bytes). Copy the file again.")
    image = _open(data, name, pixel_limit)
    try:
        image.load()
        upright = _turn_upright(image)
        return _to_eight_bits(upright).convert(channels)
    except MemoryError:
        raise
    except Exception as error:  # a decoder meets damage with whatever exception its parser happened to raise
        reason = str(error).rstrip(".") or type(error).__name__
        raise BadImage(
            f"{name} is damaged or of a kind that cannot be decoded ({image.format}: {reason})."
        ) from error


def read_opacity(source: Path) -> ByteArray | None:
    """(H, W) opacity of a photograph, upright, 0 clear to 255 opaque; None where it has none.

    Raises:
        BadImage: as ``read_image``, which has read it before.
    """
    image = _open(_read_bytes(source), str(source), PIXEL_LIMIT)
    if not image.has_transparency_data:
        return None
    return np.asarray(_turn_upright(image).convert("RGBA").getchannel("A"))


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadImage(f"{path} cannot be read: {error.strerror or error}.") from error


def _open(data: bytes, name: str, pixel_limit: int) -> Image.Image:
    """Read the header alone, and refuse what is no image or too large."""
    try:
        with _without_warnings():
            image = Image.open(BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise BadImage(
            f"{name} is not an image that can be read: its first bytes are {data[:12]!r}. Accepted formats: "
            f"{', '.join(FORMATS)}."
        ) from error
    except Image.DecompressionBombError as error:  # beyond Pillow's own line, whatever ours is
        raise BadImage(f"{name} is too large: {error} The limit here is {pixel_limit} pixels.") from error
    except MemoryError:
        raise
    except Exception as error:  # as in read_image
        raise BadImage(f"{name} has a damaged header ({error}).") from error
    width, height = image.size
    if width * height > pixel_limit:
        raise BadImage(
            f"{name} is too large: {width} x {height} = {width * height} pixels, and the limit is {pixel_limit}. "
            "Shrink it, or raise pixel_limit if you trust where it comes from."
        )
    return image


def _turn_upright(image: Image.Image) -> Image.Image:
    try:
        with _without_warnings():
            orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # unreadable EXIF beside sound pixels: the picture stays as it is stored
        return image
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """An image of mode RGB, L or one that Pillow converts to them without loss of range."""
    if image.mode == "F":
        raise ValueError("floating-point values have no agreed white; save it with 8 or 16 bits a channel")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)  # (H, W)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise ValueError("its 32-bit values leave 0 to 65535, so white is unknown; save it with 8 or 16 bits")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 65535 / 255 = 257
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        white = Image.new("RGBA", colours.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, colours).convert("RGB")
    return image


@contextmanager
def _without_warnings() -> Generator[None]:
    """Pillow warns of odd metadata and of sizes that we judge ourselves."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def encode_png(pixels: ByteArray) -> bytes:
    """A PNG of (H, W, 3) sRGB, (H, W, 4) with opacity or (H, W) grey; the same array gives the same bytes."""
    return _encode(pixels, "PNG", optimize=False, compress_level=6)


def encode_webp(pixels: ByteArray, *, quality: int = 88, lossless: bool = False) -> bytes:
    """A WebP of (H, W, 3) sRGB, (H, W, 4) with opacity or (H, W) grey; lossy, a tenth of a PNG for photographs."""
    return _encode(pixels, "WEBP", quality=quality, lossless=lossless, method=2)  # 4 takes twice as long for 3 %


def _encode(pixels: ByteArray, kind: str, **options: int) -> bytes:
    stream = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, format=kind, **options)
    return stream.getvalue()
