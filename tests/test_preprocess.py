"""Preprocessing against torchvision's transforms and against arithmetic by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.errors import BadImage, UnknownName, UsageError
from sightline.preprocess import PRESETS, Preprocess, preset


def picture(seed: int, width: int, height: int) -> Image.Image:
    """Smooth noise: a resize that is off by half a pixel shows, and rounding does not dominate."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (height // 3 + 1, width // 3 + 1, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(("width", "height"), [(300, 200), (200, 300), (97, 61), (64, 64), (33, 250)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_it_is_what_torchvision_does(width: int, height: int, interpolation: Any) -> None:
    transforms = pytest.importorskip("torchvision.transforms", reason="compares with torchvision")
    image = picture(width + height, width, height)
    ours = Preprocess(
        resize=72, crop=(64, 64), interpolation=interpolation, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    mode = getattr(transforms.InterpolationMode, interpolation.upper())
    theirs = transforms.Compose([
        transforms.Resize(72, interpolation=mode), transforms.CenterCrop(64), transforms.ToTensor(),
        transforms.Normalize(ours.mean, ours.std),
    ])  # fmt: skip
    view, tensor = ours(image)
    np.testing.assert_allclose(tensor, theirs(image).numpy(), atol=1e-5)
    assert view.shape == (64, 64, 3)
    assert view.dtype == np.uint8


@pytest.mark.parametrize(("width", "height"), [(50, 80), (63, 20), (21, 21)])
def test_a_crop_beyond_the_image_is_black_as_in_torchvision(width: int, height: int) -> None:
    transforms = pytest.importorskip("torchvision.transforms", reason="compares with torchvision")
    image = picture(3, width, height)
    view, _ = Preprocess(resize=None, crop=(64, 64))(image)
    np.testing.assert_array_equal(view, np.asarray(transforms.CenterCrop(64)(image)))


@pytest.mark.parametrize("size", [(1, 80_000), (80_000, 1)])
def test_a_thin_image_is_refused_before_anything_is_resized(size: tuple[int, int]) -> None:
    with pytest.raises(BadImage, match="5,242,880,000 pixels"):
        preset("imagenet")(Image.new("RGB", size))
    assert Preprocess(resize=(64, 64), crop=None)(Image.new("RGB", size))[0].shape == (64, 64, 3)


def test_sampling_without_a_low_pass_filter() -> None:
    """Half-pixel centres: a row of 4 pixels at half the size reads between pixels 0|1 and 2|3."""
    row = np.array([[10, 30, 100, 200]], np.uint8)[:, :, None].repeat(3, axis=2)
    made = Preprocess(resize=(1, 2), crop=None, antialias=False)(Image.fromarray(row))[0]
    assert made[0, :, 0].tolist() == [20, 150]
    wider = Preprocess(resize=(1, 8), crop=None, antialias=False)(Image.fromarray(row))[0]
    expected = [10, 15, 25, 47.5, 82.5, 125, 175, 200]  # a quarter and three quarters between neighbours
    assert wider[0, :, 0].tolist() == [int(np.floor(value + 0.5)) for value in expected]


@pytest.mark.parametrize("channels", ["RGB", "BGR", "L"])
def test_normalising_by_hand_and_back(channels: Any) -> None:
    count = 1 if channels == "L" else 3
    ours = Preprocess(
        resize=None,
        crop=None,
        channels=channels,
        scale=0.5,
        mean=(1.0, 2.0, 3.0)[:count],
        std=(4.0, 5.0, 6.0)[:count],
    )
    view, tensor = ours(picture(9, 7, 5))
    for place in range(count):
        colour = 2 - place if channels == "BGR" else place
        expected = (view[:, :, colour] * 0.5 - ours.mean[place]) / ours.std[place]
        np.testing.assert_allclose(tensor[place], expected, rtol=1e-6)
    np.testing.assert_array_equal(ours.to_pixels(tensor), view)
    np.testing.assert_array_equal(ours.normalise(np.stack([view, view]))[1], tensor)
    low, high = ours.bounds
    np.testing.assert_allclose(low, [(0 - m) / s for m, s in zip(ours.mean, ours.std, strict=True)], rtol=1e-6)
    np.testing.assert_allclose(high, [(127.5 - m) / s for m, s in zip(ours.mean, ours.std, strict=True)], rtol=1e-6)


def test_luminance_is_itu_601() -> None:
    image = Image.new("RGB", (1, 1), (200, 100, 50))
    view, tensor = Preprocess(resize=None, crop=None, channels="L", mean=(0.0,), std=(1.0,), scale=1.0)(image)
    assert tensor[0, 0, 0] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    assert view.tolist() == [[[124, 124, 124]]]


def test_json_round_trip_and_digest() -> None:
    digests = set()
    for name, chosen in PRESETS.items():
        assert Preprocess.from_json(chosen.to_json()) == chosen, name
        digests.add(chosen.sha256)
    assert len(digests) == len(PRESETS)
    assert preset("imagenet") is PRESETS["imagenet"]


def test_fitting_keeps_the_proportion_of_resize_and_crop() -> None:
    imagenet = preset("imagenet")
    assert imagenet.fitted(224, 224) is imagenet
    fitted = imagenet.fitted(96, 128)
    assert (fitted.resize, fitted.crop) == (110, (96, 128))  # 96 * 256 / 224 = 109.7
    whole = Preprocess(resize=(10, 20), crop=None).fitted(7, 6)
    assert (whole.resize, whole.crop) == ((7, 6), None)


def test_changing_the_channels_carries_the_numbers_over() -> None:
    grey = preset("imagenet").changed(channels="L")
    assert (grey.mean, grey.std) == ((0.485,), (0.229,))
    assert grey.changed(channels="RGB", std=(1.0, 2.0, 3.0)).mean == (0.485,) * 3


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"mean": (0.0, 0.0)}, r"do not fit channels 'RGB': 3 numbers each are needed"),
        ({"channels": "L"}, r"do not fit channels 'L': 1 number each are needed"),
        ({"channels": "GRB"}, r"channels 'GRB' is not one of RGB, BGR, L"),
        ({"interpolation": "cubic"}, r"interpolation 'cubic' is not one of bilinear"),
        ({"std": (1.0, 0.0, 1.0)}, r"std and scale not 0"),
        ({"scale": 0.0}, r"std and scale not 0"),
        ({"mean": (float("nan"),) * 3}, r"must be finite"),
        ({"std": (float("inf"),) * 3}, r"must be finite"),
        ({"resize": 0}, r"resize 0 must be at least 1 pixel"),
        ({"crop": (5, 0)}, r"crop \(5, 0\) must be at least 1 pixel"),
    ],
)
def test_numbers_that_cannot_be(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Preprocess(**{"resize": None, "crop": None, **fields})


def test_an_unknown_preset_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"No preset is named 'image-net'. Did you mean 'imagenet'"):
        preset("image-net")
