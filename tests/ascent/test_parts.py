"""Parametrisations, regularisers, transforms and films, each against its definition."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.ascent.film import film
from sightline.ascent.octaves import octave_sizes, resized
from sightline.ascent.parametrisation import COLOUR_ROOT, colour_root, noise, picture
from sightline.ascent.pixels import pixel_values
from sightline.ascent.regularisers import (
    L2,
    AlphaNorm,
    Blur,
    ClipSmallGradients,
    ClipSmallPixels,
    TotalVariation,
)
from sightline.ascent.transforms import Jitter, Turn
from sightline.errors import UsageError
from sightline.preprocess import Preprocess

PREPROCESS = Preprocess(resize=(6, 7), crop=None, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def inside(seed: int, count: int = 2, size: tuple[int, int] = (6, 7)) -> np.ndarray:
    """Pictures well within the bounds of pixels."""
    shares = np.random.default_rng(seed).uniform(0.1, 0.9, (count, 3, *size))
    mean, std = (np.array(part).reshape(3, 1, 1) for part in (PREPROCESS.mean, PREPROCESS.std))
    return ((shares - mean) / std).astype(np.float32)


@pytest.mark.parametrize("space", ["pixels", "fourier"])
@pytest.mark.parametrize("size", [(6, 7), (5, 8)])
def test_pictures_come_back_from_their_parameters(space: str, size: tuple[int, int]) -> None:
    images = inside(1, size=size)
    free = picture(space, torch.from_numpy(images), PREPROCESS, decorrelate=True)  # type: ignore[arg-type]
    np.testing.assert_allclose(free.images().detach().numpy(), images, rtol=1e-3, atol=1e-3)
    others = inside(2, size=size)
    free.assign(torch.from_numpy(others))
    np.testing.assert_allclose(free.images().detach().numpy(), others, rtol=1e-3, atol=1e-3)


def test_no_parameters_leave_the_bounds_of_pixels() -> None:
    free = picture("fourier", torch.from_numpy(inside(3)), PREPROCESS, decorrelate=True)
    with torch.no_grad():
        free.parameters[0].mul_(100)
    low, high = (end.reshape(1, 3, 1, 1) for end in PREPROCESS.bounds)
    found = free.images().detach().numpy()
    assert (found >= low - 1e-5).all()
    assert (found <= high + 1e-5).all()


def test_colours_of_bgr_models_are_turned_round() -> None:
    straight = colour_root(PREPROCESS, decorrelate=True)
    turned = colour_root(PREPROCESS.changed(channels="BGR"), decorrelate=True)
    np.testing.assert_array_equal(turned, straight[::-1])
    ratio = straight @ np.linalg.inv(COLOUR_ROOT)
    np.testing.assert_allclose(ratio, ratio[0, 0] * np.eye(3), atol=1e-4)
    np.testing.assert_array_equal(colour_root(PREPROCESS, decorrelate=False), np.eye(3))


def test_noise_depends_on_its_own_stream_alone() -> None:
    both = noise([4, 9], (3, 16, 16), PREPROCESS, 0.05)
    np.testing.assert_array_equal(both[1:], noise([9], (3, 16, 16), PREPROCESS, 0.05))
    low, high = PREPROCESS.bounds
    spread = both / (high - low).reshape(1, 3, 1, 1)
    assert 0.02 < spread.std() < 0.06


def test_penalties_are_means_over_pixels() -> None:
    x = inside(5, count=1)[0].astype(np.float64)
    given = torch.from_numpy(x[None])
    assert L2(3.0)(given).item() == pytest.approx(3 * (x**2).mean())
    assert AlphaNorm(2.0, 6.0)(given).item() == pytest.approx(2 * (np.abs(x) ** 6).mean())
    for beta in (2.0, 1.0):
        total, count = 0.0, 0
        for c in range(3):
            for i in range(5):
                for j in range(6):
                    dx, dy = x[c, i, j + 1] - x[c, i, j], x[c, i + 1, j] - x[c, i, j]
                    total, count = total + (dx**2 + dy**2) ** (beta / 2), count + 1
        assert TotalVariation(1.5, beta)(given).item() == pytest.approx(1.5 * total / count, rel=1e-5)


def test_projections() -> None:
    images, gradient = torch.from_numpy(inside(6)), torch.from_numpy(inside(7))
    sizes = images.norm(dim=1)
    small = ClipSmallPixels(25.0)(images, gradient, 0.0)
    for row in range(2):
        faint = sizes[row] < np.percentile(sizes[row].numpy(), 25)
        assert (small[row][:, faint] == 0).all()
        assert torch.equal(small[row][:, ~faint], images[row][:, ~faint])
    worth = (images * gradient).sum(dim=1).abs()
    kept = ClipSmallGradients(50.0)(images, gradient, 0.0)
    for row in range(2):
        little = worth[row] < np.percentile(worth[row].numpy(), 50)
        assert ((kept[row] == 0).all(dim=0) == little).all()


def test_a_blur_is_gaussian_and_fades() -> None:
    from scipy.ndimage import gaussian_filter

    point = np.zeros((1, 1, 31, 29), np.float32)
    point[0, 0, 15, 14] = 1
    found = Blur(2.0)(torch.from_numpy(point), torch.zeros(1), 0.25).numpy()[0, 0]
    expected = gaussian_filter(point[0, 0], sigma=1.5, truncate=10, mode="nearest")
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert Blur(2.0)(torch.from_numpy(point), torch.zeros(1), 1.0).numpy().tobytes() == point.tobytes()


def test_jitter_rolls_and_rows_draw_for_themselves() -> None:
    images = torch.from_numpy(inside(8))
    generators = [np.random.default_rng(seed) for seed in (3, 4)]
    moved = Jitter(3).draw(generators)(images).numpy()
    alone = Jitter(3).draw([np.random.default_rng(4)])(images[1:]).numpy()
    np.testing.assert_array_equal(moved[1:], alone)
    rolls = [np.roll(images[0].numpy(), (dy, dx), axis=(1, 2)) for dy in range(-3, 4) for dx in range(-3, 4)]
    assert any(np.array_equal(moved[0], one) for one in rolls)


def test_turning_moves_a_point_by_the_angle() -> None:
    side = 41
    image = torch.zeros(1, 1, side, side)
    image[0, 0, 20, 32] = 1.0  # 12 to the right of the centre

    class Extreme(np.random.Generator):
        def uniform(self, *_: object, **__: object) -> np.ndarray:  # type: ignore[override]
            return np.array([1.0, 0.0])

    turned = Turn(90.0, 0.5).draw([Extreme(np.random.PCG64(0))])(image)[0, 0]
    row, column = np.unravel_index(int(turned.argmax()), (side, side))
    assert (abs(int(row) - 20), int(column)) == (12, 20)
    assert float(turned.max()) == pytest.approx(1.0, abs=1e-3)


def test_octaves() -> None:
    assert octave_sizes(224, 224, 3, 1.4) == [(114, 114), (160, 160), (224, 224)]
    flat = torch.full((1, 3, 8, 8), 2.5)
    np.testing.assert_allclose(resized(flat, (5, 11)).numpy(), 2.5, rtol=1e-5)


def test_pixel_values_undo_the_preprocessing() -> None:
    view = np.random.default_rng(1).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    tensor = PREPROCESS.normalise(view)
    np.testing.assert_allclose(pixel_values(PREPROCESS, tensor), view, atol=1e-3)


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_films_hold_their_frames(suffix: str) -> None:
    import av

    frames = [np.full((20, 31, 3), 40 * n + 20, np.uint8) for n in range(5)]
    content = film(frames, suffix, rate=10)
    if suffix == ".gif":
        read = Image.open(BytesIO(content))
        assert (read.n_frames, read.info["duration"], read.size) == (5, 100, (31, 20))  # type: ignore[attr-defined]
        return
    with av.open(BytesIO(content)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in decoded] == [(20, 30, 3)] * 5
    np.testing.assert_allclose([frame.mean() for frame in decoded], [40 * n + 20 for n in range(5)], atol=4)


def test_films_that_cannot_be_made() -> None:
    frames = [np.zeros((4, 4, 3), np.uint8)]
    with pytest.raises(UsageError, match=r"Accepted: \.gif, \.mp4"):
        film(frames, ".avi")
    with pytest.raises(UsageError, match="no frames"):
        film([], ".gif")
    with pytest.raises(UsageError, match="1 to 50"):
        film(frames, ".gif", rate=0)
    with pytest.raises(UsageError, match="A frame is"):
        film([*frames, np.zeros((5, 4, 3), np.uint8)], ".gif")
