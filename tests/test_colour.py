from __future__ import annotations

import numpy as np
import pytest
from matplotlib import colormaps

from sightline.colour import STEPS, ColourScale, colourise, number, overlay, pale, resize_map
from sightline.errors import UsageError


def reference(name: str, position: float) -> np.ndarray:
    """The colour at a position of 0 to 1, read from matplotlib's map directly."""
    return np.rint(np.array(colormaps[name](float(position))[:3]) * 255)


@pytest.mark.parametrize("seed", range(4))
def test_signed_colours_follow_the_diverging_map_about_zero(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(7, 5)).astype(np.float32)
    pixels, scale = colourise(values, signed=True)
    reach = np.abs(values).max()
    assert scale.low == -reach
    assert scale.high == reach
    for value, pixel in zip(values.ravel(), pixels.reshape(-1, 3), strict=True):
        # one step of the scale either way
        assert np.abs(pixel - reference("coolwarm", 0.5 + value / reach / 2)).max() <= 3


def test_zero_is_the_middle_colour_however_lopsided_the_values() -> None:
    middle = reference("coolwarm", 0.5)
    for values in ([0.0, 9.0], [-3.0, 0.0], [0.0, 1e-30], [0.0, 0.0]):
        pixels, _ = colourise(np.array([values], np.float32), signed=True)
        assert np.array_equal(pixels[0, values.index(0.0)], middle)


def test_opposite_numbers_lie_equally_far_from_the_middle() -> None:
    scale = ColourScale.fit(np.array([-1.0, 1.0]), signed=True)
    values = np.random.default_rng(5).uniform(0, 1, 500)
    ramp = scale.bar()[0].tolist()
    for value in values:
        above = ramp.index(scale.colours(np.array([value]))[0].tolist())
        below = ramp.index(scale.colours(np.array([-value]))[0].tolist())
        assert above - STEPS // 2 == STEPS // 2 - below


def test_unsigned_colours_run_from_the_least_to_the_largest() -> None:
    values = np.array([[3.0, 4.0, 5.0]], np.float32)
    pixels, scale = colourise(values, signed=False)
    assert (scale.low, scale.high) == (3.0, 5.0)
    for pixel, place in zip(pixels[0], (0, 0.5, 1), strict=True):
        assert np.abs(pixel - reference("inferno", place)).max() <= (3 if place == 0.5 else 0)


@pytest.mark.parametrize("signed", [True, False])
def test_all_negative(signed: bool) -> None:
    values = np.array([[-4.0, -1.0]], np.float32)
    pixels, scale = colourise(values, signed=signed)
    assert (scale.low, scale.high) == ((-4.0, 4.0) if signed else (-4.0, -1.0))
    assert scale.range() == "−4 to −1"
    assert np.array_equal(pixels[0, 0], reference("coolwarm" if signed else "inferno", 0.0))
    # -1 lies three eighths along -4 to 4
    assert np.abs(pixels[0, 1] - reference(*(("coolwarm", 0.375) if signed else ("inferno", 1.0)))).max() <= 3


@pytest.mark.parametrize(
    ("value", "signed", "place"), [(2.5, True, 1.0), (-2.5, True, 0.0), (2.5, False, 0.0), (0, True, 0.5)]
)
def test_constant_maps(value: float, signed: bool, place: float) -> None:
    pixels, scale = colourise(np.full((3, 3), value, np.float32), signed=signed)
    assert (pixels == reference("coolwarm" if signed else "inferno", place)).all()
    assert scale.range() == number(value)


def test_clipping_ends_the_scale_at_the_percentile_and_says_so() -> None:
    values = np.concatenate([np.linspace(-1, 1, 1001), [50.0]])
    scale = ColourScale.fit(values, signed=True, clip_percentile=99)
    assert scale.high == pytest.approx(np.percentile(np.abs(values), 99))
    assert scale.range() == "−1 to 50"
    ticks = [text for _, text in scale.ticks()]
    assert ticks == [f"≤ {number(scale.low)}", "0", f"≥ {number(scale.high)}"]
    assert np.array_equal(scale.colours(np.array(50.0)), scale.colours(np.array(scale.high)))


def test_clipping_a_sparse_map_does_not_clip_it_all_away() -> None:
    values = np.zeros(1000)
    values[3] = 7.0
    for signed in (True, False):
        assert ColourScale.fit(values, signed=signed, clip_percentile=99).high == 7.0


def test_ticks_are_the_range_of_the_data() -> None:
    scale = ColourScale.fit(np.array([0.25, 1234.6]), signed=False)
    assert scale.ticks() == [(0.0, "0.25"), (1.0, "1235")]
    assert ColourScale.fit(np.array([-2.0, 0.5]), signed=True).ticks() == [(0.0, "−2"), (0.5, "0"), (1.0, "2")]
    assert ColourScale.fit(np.zeros(4), signed=True).ticks() == [(0.5, "0")]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_counted_and_refused(bad: float) -> None:
    values = np.zeros((4, 5), np.float32)
    values[1, 2] = values[3, 3] = bad
    with pytest.raises(UsageError, match="2 of 20 numbers that are not finite"):
        colourise(values, signed=True)


def test_empty_maps_and_impossible_percentiles_are_refused() -> None:
    with pytest.raises(UsageError, match="holds no numbers"):
        colourise(np.zeros((0, 3), np.float32), signed=False)
    for percentile in (0, -1, 100.5, float("nan")):
        with pytest.raises(UsageError, match="clip_percentile"):
            ColourScale.fit(np.ones(3), signed=False, clip_percentile=percentile)


@pytest.mark.parametrize("seed", range(3))
def test_an_overlay_blends_by_magnitude(seed: int) -> None:
    rng = np.random.default_rng(seed)
    view = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    values = rng.normal(size=(9, 11)).astype(np.float32)
    values[4, 5] = 0.0
    scale = ColourScale.fit(values, signed=True)
    picture = overlay(view, values, scale, strength=0.8)
    ground = 40 + (view @ [0.299, 0.587, 0.114]) * 215 / 255  # ITU-R 601
    opacity = 0.8 * np.sqrt(np.abs(values) / np.abs(values).max())[..., None]
    expected = ground[..., None] * (1 - opacity) + scale.colours(values) * opacity
    assert np.abs(picture - expected).max() <= 1.5
    assert np.ptp(picture[4, 5]) == 0  # 0 leaves the photograph's grey


def test_an_overlay_takes_a_map_of_another_size() -> None:
    view = np.full((64, 48, 3), 100, np.uint8)
    values = np.array([[0.0, 0.0], [0.0, 1.0]], np.float32)
    scale = ColourScale.fit(values, signed=False)
    picture = overlay(view, values, scale)
    assert picture.shape == view.shape
    assert np.array_equal(picture[0, 0], np.rint(pale(view)[0, 0]))
    assert picture[-1, -1, 0] > picture[0, 0, 0] + 100  # inferno's yellow in the corner that mattered


def test_resizing_is_bilinear_between_the_centres_of_equal_parts() -> None:
    values = np.random.default_rng(8).normal(size=(4, 3)).astype(np.float32)
    tall, wide = 12, 15
    rows = np.clip((np.arange(tall) + 0.5) * 4 / tall - 0.5, 0, 3)
    columns = np.clip((np.arange(wide) + 0.5) * 3 / wide - 0.5, 0, 2)
    across = np.array([np.interp(columns, range(3), row) for row in values])  # (4, wide)
    expected = np.array([np.interp(rows, range(4), column) for column in across.T]).T
    assert np.allclose(resize_map(values, tall, wide), expected, atol=1e-5)
