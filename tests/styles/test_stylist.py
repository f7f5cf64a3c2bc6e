"""Painting whole and in tiles, against the network that was exported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sightline.errors import BadModel, UsageError
from sightline.routes.base import Settings
from sightline.styles.reach import reach_of
from sightline.styles.style import Style
from sightline.styles.stylist import MARGIN, UNIT, Stylist, blended
from sightline.styles.training.export import export_network
from sightline.styles.training.network import StyleNetwork

THREADS = Settings(threads=2)


def photograph(seed: int, height: int, width: int) -> np.ndarray:
    """Soft colours, everywhere alike."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)
    return np.clip(128 + 400 * cv2.GaussianBlur(noise, (0, 0), 3), 0, 255).astype(np.uint8)


def by_torch(network: StyleNetwork, picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    below, right = (MARGIN + -side % 4 for side in (height, width))
    wide = np.pad(picture, ((MARGIN, below), (MARGIN, right), (0, 0)), mode="symmetric")
    with torch.no_grad():
        found = network(torch.from_numpy(wide.astype(np.float32) / 255).permute(2, 0, 1)[None])
    found = found[0].permute(1, 2, 0).numpy()[MARGIN : MARGIN + height, MARGIN : MARGIN + width]
    return found * 255


@pytest.mark.parametrize("size", [(40, 64), (33, 47), (1, 1), (5, 90)])
def test_a_picture_of_any_size_is_what_torch_makes_of_it(
    network: StyleNetwork, folder: Path, size: tuple[int, int]
) -> None:
    picture = photograph(1, *size)
    (found,) = Stylist(Style.read(str(folder)), THREADS).paint([picture])
    assert found.shape == picture.shape
    assert np.abs(found - by_torch(network, picture)).max() <= 0.51


def test_pictures_of_one_size_share_a_run_and_do_not_mix(folder: Path) -> None:
    stylist = Stylist(Style.read(str(folder)), THREADS)
    pictures = [photograph(seed, 24, 36) for seed in range(3)] + [photograph(9, 20, 20)]
    together = stylist.paint(pictures)
    for picture, painting in zip(pictures, together, strict=True):
        (alone,) = stylist.paint([picture])
        assert np.abs(alone.astype(int) - painting).max() <= 1


def test_tiles_meet_without_seams(folder: Path) -> None:
    """Tiles of 200 pixels make what one tile makes with the same statistics, and nearly what the whole makes."""
    picture = photograph(4, 431, 518)
    style = Style.read(str(folder))
    tiled = Stylist(style, THREADS, tile=200).paint_tiled(picture)
    single = Stylist(style, THREADS, tile=1000).paint_tiled(picture)
    assert np.abs(tiled.astype(int) - single).max() <= 1
    (whole,) = Stylist(style, THREADS).paint([picture])
    assert np.abs(tiled.astype(int) - whole).mean() < 3


@pytest.mark.parametrize("blocks", [1, 5, 12])
def test_tiles_overlap_by_just_what_the_network_sees(blocks: int, tmp_path: Path) -> None:
    """One changed pixel changes none beyond the reach of its graph, and some that are not much nearer."""
    torch.manual_seed(0)
    network = StyleNetwork(2, blocks).eval()
    export_network(network, tmp_path / "style.onnx", 32)
    reach = reach_of(Style.read(str(tmp_path)).graph, UNIT)
    assert reach % UNIT == 0
    for part in network.modules():  # fixed statistics, so that changes do not travel through means
        if isinstance(part, torch.nn.InstanceNorm2d):
            part.forward = lambda x: x  # type: ignore[method-assign]
    network.double()  # what is far changes little
    side = 2 * reach + 40
    image = torch.rand(1, 3, side, side, dtype=torch.float64)
    places = range(side // 2 - 2, side // 2 + 2)  # where strides cut differently
    nearest, farthest = list[int](), list[int]()
    for place in places:
        other = image.clone()
        other[:, :, place, place] += 10
        with torch.no_grad():
            changed = (network(other) - network(image)).abs().amax(dim=(0, 1)) > 0
        rows = torch.nonzero(changed.any(dim=1)).flatten()
        nearest.append(place - int(rows.min()))
        farthest.append(int(rows.max()) - place)
    assert reach - 2 * UNIT < max(nearest + farthest) <= reach


def test_strength_is_a_share() -> None:
    picture, painting = photograph(1, 8, 9), photograph(2, 8, 9)
    np.testing.assert_array_equal(blended(picture, painting, 0.0), picture)
    np.testing.assert_array_equal(blended(picture, painting, 1.0), painting)
    half = (picture.astype(float) + painting) / 2
    assert np.abs(blended(picture, painting, 0.5) - half).max() <= 0.5


def test_what_is_no_style(tmp_path: Path, folder: Path) -> None:
    from problems import convolutional

    with pytest.raises(UsageError, match="There is no"):
        Style.read(str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="not finished"):
        Style.read(str(tmp_path))
    with pytest.raises(BadModel, match="no style network"):
        Style.read(str(convolutional().save(tmp_path)))
    with pytest.raises(UsageError, match="tile=40 must be at least 48"):
        Stylist(Style.read(str(folder)), tile=40)


def test_painting_needs_no_torch(folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(photograph(1, 30, 40)).save(tmp_path / "photo.png")
    call = ["style", "apply", str(folder), str(tmp_path / "photo.png"), "-o", str(tmp_path / "out"), "--json"]
    code = (
        f"from sightline.cli import call; import sys; assert call({call!r}) == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert (tmp_path / "out" / "photo.png").is_file()
