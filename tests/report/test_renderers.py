from __future__ import annotations

from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from report.examples import some_activations, some_filters, some_heatmaps, some_photos, some_predictions
from sightline.colour import ColourScale, overlay
from sightline.errors import UsageError
from sightline.image import encode_png
from sightline.report.panel import panels
from sightline.types import Photo


def test_a_heatmap_is_the_overlay_of_its_row_with_the_range_of_its_data() -> None:
    photos = some_photos(3)
    result = some_heatmaps(photos)
    assert panels(result, None) == []
    for row in range(3):
        (panel,) = panels(result, row)
        values = result.values[row]
        scale = ColourScale.fit(values, signed=True, clip_percentile=99.5)
        assert panel.scale == scale
        assert (scale.minimum, scale.maximum) == (values.min(), values.max())
        # 40 x 56 is enlarged five times, to the first size whose shorter side is 192 or more
        view = photos[row].view.repeat(5, axis=0).repeat(5, axis=1)
        assert np.array_equal(panel.pixels, overlay(view, values, scale))
        assert panel.title == "Occlusion"
        assert panel.target == row
        assert "Red speaks for the target" in panel.caption
        assert f"{row + 0.5}" in panel.caption


def test_unsigned_and_approximate_maps_say_so() -> None:
    (panel,) = panels(some_heatmaps(some_photos(1), signed=False, approximate=True), 0)
    assert "for or against" in panel.caption
    assert "Approximate" in panel.caption
    assert not panel.scale.signed


def test_a_map_without_a_view_is_drawn_by_itself() -> None:
    result = some_heatmaps((Photo("0"),))
    (panel,) = panels(result, 0)
    assert np.array_equal(panel.pixels[::5, ::5], panel.scale.colours(result.values[0]))


def test_a_map_that_is_not_finite_gives_words_in_place_of_a_picture() -> None:
    result = some_heatmaps(some_photos(2))
    result.values[0, 3, 4] = np.nan
    (panel,) = panels(result, 0)
    assert panel.pixels is None
    assert "1 of 2240 numbers that are not finite" in panel.caption
    assert panels(result, 1)[0].pixels is not None


def test_the_alternative_text_says_where_the_extreme_lies() -> None:
    result = some_heatmaps(some_photos(1))
    result.values[0] = 0
    for (row, column), where in (
        ((1, 50), "top right"), ((20, 28), "middle"), ((39, 28), "bottom"), ((20, 0), "left")
    ):  # fmt: skip
        result.values[0] = 0
        result.values[0, row, column] = -3
        assert panels(result, 0)[0].alt.endswith(f"strongest in the {where}")


def test_predictions_are_the_five_most_probable_in_order() -> None:
    result = some_predictions(some_photos(2), tuple("abcdefghi"))
    result.values[1] = [0.1, 0.3, 0.1, 0.3, 0.05, 0.05, 0.04, 0.03, 0.03]
    (panel,) = panels(result, 1)
    assert [label for label, _ in panel.bars] == list("bdace")  # ties to the lower class
    assert [share for _, share in panel.bars] == pytest.approx([0.3, 0.3, 0.1, 0.1, 0.05])
    (panel,) = panels(replace(result, labels=()), 1)
    assert panel.bars[0][0] == "class 1"


def test_fewer_than_five_classes() -> None:
    assert len(panels(some_predictions(some_photos(1), classes=2), 0)[0].bars) == 2


def test_kernels_are_stretched_about_grey_each_by_itself() -> None:
    result = some_filters(3)
    result.values[1] = 0
    (panel,) = panels(result, None)
    assert panels(result, 0) == []
    assert [label for _, label in panel.cells] == ["0", "1", "2"]
    assert (panel.cells[1][0] == 128).all()
    for index in (0, 2):
        kernel = result.values[index]
        cell = panel.cells[index][0].astype(float)
        assert np.abs(cell - (128 + 127 * kernel / np.abs(kernel).max())).max() <= 0.5
        assert {cell.max(), cell.min()} & {1.0, 255.0}
    assert "5 × 5" in panel.caption


def test_kernels_that_read_no_colours_are_grey_and_carry_the_note() -> None:
    result = some_filters(4, rgb=False)
    (panel,) = panels(result, None)
    assert panel.caption.endswith(result.note)
    assert [label for _, label in panel.cells] == ["0 ← 2", "1 ← 3", "2 ← 4", "3 ← 5"]
    for cell, _ in panel.cells:
        assert cell.shape == (3, 3, 3)
        assert (np.ptp(cell, axis=2) == 0).all()


def test_activations_show_mean_strongest_and_all_channels_on_one_scale() -> None:
    result = some_activations(some_photos(2))
    mean, strongest, channels = panels(result, 1)
    assert mean.scale == ColourScale.fit(result.mean[1], signed=False, clip_percentile=99.5)
    assert strongest.scale.maximum == result.values[1, 0].max()
    assert "10" in strongest.title
    scale = ColourScale.fit(result.values[1], signed=False)
    assert channels.scale == scale
    for n, (cell, label) in enumerate(channels.cells):
        assert np.array_equal(cell, scale.colours(result.values[1, n]))
        name, strength = label.split(": ")
        assert int(name) == 10 + n
        assert float(strength) == pytest.approx(result.strength[1, n], rel=5e-3)


def test_activations_with_a_sign_are_centred_on_zero() -> None:
    result = some_activations(some_photos(1))
    result.values[0, 0, 0, 0] = -5
    mean, strongest, channels = panels(result, 0)
    assert mean.scale.signed
    assert strongest.scale.signed
    assert channels.scale.signed


def test_a_result_without_a_renderer_is_told_which_file_to_add() -> None:
    @dataclass(frozen=True)
    class TinyThing:
        photos: tuple[Photo, ...] = ()

    with pytest.raises(UsageError, match=r"report/tiny_thing\.py"):
        panels(TinyThing(), None)


def test_a_subclass_is_drawn_as_its_base() -> None:
    result = some_heatmaps(some_photos(1))

    class FineHeatmaps(type(result)):
        pass

    fine = FineHeatmaps(result.values, result.photos, result.scores, result.classes)
    assert np.array_equal(panels(fine, 0)[0].pixels, panels(result, 0)[0].pixels)


def test_pictures_survive_encoding() -> None:
    (panel,) = panels(some_heatmaps(some_photos(1)), 0)
    assert np.array_equal(np.asarray(Image.open(BytesIO(encode_png(panel.pixels)))), panel.pixels)
