"""How a photograph becomes the model's input. Part of the model, never guessed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.errors import BadImage, UnknownName, UsageError
from sightline.image import PIXEL_LIMIT
from sightline.types import ByteArray, FloatArray

Channels = Literal["RGB", "BGR", "L"]
Interpolation = Literal["bilinear", "bicubic", "nearest", "lanczos", "box"]
METADATA_KEY = "sightline.preprocess"


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Resize, crop, scale and normalise: ``(pixel * scale - mean) / std`` per channel.

    Attributes:
        resize: the shorter side in pixels, or (height, width), or None to leave the size.
        crop: (height, width) about the centre, padded with black where the image is smaller; None to leave it.
        interpolation: how to resize.
        antialias: False samples as deployed C++ code often does, without the low-pass filter when shrinking.
        channels: order in which the model reads colours; "L" is one channel of luminance.
        scale: what a pixel of 0 to 255 is multiplied with.
        mean, std: per channel, in scaled units.
    """

    resize: int | tuple[int, int] | None
    crop: tuple[int, int] | None
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    channels: Channels = "RGB"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        for name, accepted in (("channels", Channels), ("interpolation", Interpolation)):
            if getattr(self, name) not in get_args(accepted):
                raise UsageError(f"{name} {getattr(self, name)!r} is not one of {', '.join(get_args(accepted))}.")
        count = 1 if self.channels == "L" else 3
        if len(self.mean) != count or len(self.std) != count:
            raise UsageError(
                f"mean {self.mean} and std {self.std} do not fit channels {self.channels!r}: "
                f"{count} number{'s' if count > 1 else ''} each are needed."
            )
        if (
            any(value == 0 for value in (*self.std, self.scale))
            or not np.isfinite((*self.mean, *self.std, self.scale)).all()
        ):
            raise UsageError(
                f"mean {self.mean}, std {self.std} and scale {self.scale} must be finite, std and scale not 0."
            )
        if not self.antialias and self.interpolation not in ("bilinear", "nearest"):
            raise UsageError(f"Without antialiasing there is bilinear and nearest, not {self.interpolation}.")
        for name in ("resize", "crop"):
            size = getattr(self, name)
            if isinstance(size, tuple) and len(cast("tuple[int, ...]", size)) != 2:
                raise UsageError(f"{name} {size} must be (height, width).")
            if size is not None and min(np.atleast_1d(size)) < 1:
                raise UsageError(f"{name} {size} must be at least 1 pixel.")

    def __str__(self) -> str:
        def size(value: int | tuple[int, int]) -> str:
            return f"shorter side to {value}" if isinstance(value, int) else f"{value[0]} × {value[1]}"

        def numbers(values: tuple[float, ...]) -> str:
            return " ".join(f"{value:g}" for value in values)

        steps = [
            ""
            if self.resize is None
            else f"resize {size(self.resize)} ({self.interpolation}{'' if self.antialias else ', no antialiasing'})",
            "" if self.crop is None else f"crop {size(self.crop)}",
            f"{self.channels} × {'1/255' if self.scale == 1 / 255 else f'{self.scale:g}'}",
            f"mean {numbers(self.mean)}",
            f"std {numbers(self.std)}",
        ]
        return ", ".join(step for step in steps if step)

    def __call__(self, image: Image.Image) -> tuple[ByteArray, FloatArray]:
        """The crop that the model sees, (H, W, 3) uint8 sRGB, and its input, (C, H, W) float32.

        Raises:
            BadImage: so thin that bringing its shorter side to ``resize`` takes more than `PIXEL_LIMIT` pixels.
        """
        image = image.convert("L" if self.channels == "L" else "RGB")
        if self.resize is not None:
            image = self._resized(image)
        if self.crop is not None:
            image = _cropped(image, self.crop)
        pixels = np.asarray(image)  # (H, W, 3) or (H, W)
        view = (
            np.ascontiguousarray(np.broadcast_to(pixels[:, :, None], (*pixels.shape, 3)))
            if pixels.ndim == 2
            else pixels
        )
        return view, self.normalise(view)

    def normalise(self, view: NDArray[Any]) -> FloatArray:
        """(..., C, H, W) float32 model input from (..., H, W, 3) pixels of 0 to 255."""
        pixels = np.moveaxis(np.asarray(view), -1, -3)
        pixels = pixels[..., :1, :, :] if self.channels == "L" else pixels
        pixels = pixels[..., ::-1, :, :] if self.channels == "BGR" else pixels
        mean, std = (np.asarray(v, dtype=np.float32)[:, None, None] for v in (self.mean, self.std))
        found = pixels.astype(np.float32, order="C")
        found *= np.float32(self.scale)
        found -= mean
        found /= std
        return found

    def to_pixels(self, tensor: NDArray[Any]) -> ByteArray:
        """The picture (..., H, W, 3) uint8 that gives this input (..., C, H, W); clipped and rounded."""
        mean, std = (np.asarray(v, dtype=np.float64)[:, None, None] for v in (self.mean, self.std))
        pixels = (np.asarray(tensor, dtype=np.float64) * std + mean) / self.scale
        pixels = pixels[..., ::-1, :, :] if self.channels == "BGR" else pixels
        rounded = np.moveaxis(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), -3, -1)
        return np.repeat(rounded, 3, axis=-1) if self.channels == "L" else np.ascontiguousarray(rounded)

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """(C,) lowest and (C,) highest value of the model's input: those of pixels 0 and 255."""
        ends = [
            (np.float32(pixel * self.scale) - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
            for pixel in (0, 255)
        ]
        return np.minimum(*ends), np.maximum(*ends)

    @property
    def output_size(self) -> tuple[int, int] | None:
        """Height and width of the input it makes; None when that depends on the image."""
        return self.crop or (self.resize if isinstance(self.resize, tuple) else None)

    def changed(self, **fields: Any) -> Preprocess:
        """The same with some fields replaced; a lone luminance mean becomes three when colours come back."""
        count = 1 if fields.get("channels", self.channels) == "L" else 3
        for name in ("mean", "std"):
            if name not in fields and len(getattr(self, name)) != count:
                fields[name] = (getattr(self, name)[0],) * count
        return replace(self, **fields)

    def fitted(self, height: int, width: int) -> Preprocess:
        """The same for a model of another input size: crop to it, resize in proportion."""
        if self.output_size == (height, width):
            return self
        if isinstance(self.resize, int) and self.crop is not None:
            ratio = self.resize / min(self.crop)
            return replace(self, resize=round(min(height, width) * ratio), crop=(height, width))
        return replace(self, resize=(height, width), crop=None)

    @property
    def sha256(self) -> str:
        """Digest of the parameters, for manifests."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """As exporters write it into the model's metadata."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Preprocess:
        """Read what ``to_json`` or an exporter wrote.

        Raises:
            UsageError: not JSON, or fields missing, unknown or of the wrong kind.
        """
        try:
            return cls.from_fields(json.loads(text))
        except (json.JSONDecodeError, AttributeError, TypeError, ValueError) as reason:
            raise UsageError(f"The model's metadata {METADATA_KEY!r} cannot be read: {reason}") from None

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Preprocess:
        """From plain lists, as JSON and command lines give them."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list | tuple) else value for key, value in fields.items()
        }
        return cls(**values)

    def _resized(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        if isinstance(self.resize, int):
            short, long = sorted((width, height))
            scaled = int(self.resize * long / short)
            size = (self.resize, scaled) if width <= height else (scaled, self.resize)
            if self.resize * scaled > PIXEL_LIMIT:  # the crop comes after: Pillow makes all of it
                raise BadImage(
                    f"An image of {width} x {height} pixels is too thin: with its shorter side at {self.resize} it "
                    f"has {self.resize * scaled:,} pixels, and the limit is {PIXEL_LIMIT:,}. Cut it into pieces, or "
                    "resize to HEIGHTxWIDTH (--resize)."
                )
        elif self.resize is not None:
            size = (self.resize[1], self.resize[0])
        else:
            size = image.size
        if size == image.size:
            return image
        if not self.antialias and self.interpolation == "bilinear":
            return Image.fromarray(_sampled(np.asarray(image), size[1], size[0]))
        return image.resize(size, Image.Resampling[self.interpolation.upper()])


def _cropped(image: Image.Image, crop: tuple[int, int]) -> Image.Image:
    """The centre, at the offsets torchvision uses; black outside the image."""
    width, height = image.size
    left, top = round((width - crop[1]) / 2), round((height - crop[0]) / 2)
    if width < crop[1] or height < crop[0]:
        left = -((crop[1] - width) // 2) if width < crop[1] else left
        top = -((crop[0] - height) // 2) if height < crop[0] else top
    return image.crop((left, top, left + crop[1], top + crop[0]))


def _sampled(pixels: ByteArray, height: int, width: int) -> ByteArray:
    """Bilinear with half-pixel centres and no low-pass filter, rounded half up."""
    result = pixels.astype(np.float64)
    for axis, size in ((0, height), (1, width)):
        count = result.shape[axis]
        position = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
        low = np.floor(position).astype(np.int64)
        high = np.minimum(low + 1, count - 1)
        weight = (position - low).reshape([-1 if a == axis else 1 for a in range(result.ndim)])
        result = result.take(low, axis) * (1 - weight) + result.take(high, axis) * weight
    return np.floor(result + 0.5).astype(np.uint8)


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PRESETS: Mapping[str, Preprocess] = {
    "imagenet": Preprocess(resize=256, crop=(224, 224), mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "imagenet-bgr": Preprocess(resize=256, crop=(224, 224), channels="BGR", scale=1.0,
                               mean=(103.939, 116.779, 123.68)),  # Caffe's
    "zero-to-one": Preprocess(resize=256, crop=(224, 224)),
    "minus-one-to-one": Preprocess(resize=256, crop=(224, 224), mean=(0.5,) * 3, std=(0.5,) * 3),
    "raw": Preprocess(resize=256, crop=(224, 224), scale=1.0),
}  # fmt: skip


def preset(name: str) -> Preprocess:
    """A usual preprocessing by name.

    Raises:
        UnknownName: with the nearest names.
    """
    if name not in PRESETS:
        raise UnknownName("preset", name, PRESETS)
    return PRESETS[name]
