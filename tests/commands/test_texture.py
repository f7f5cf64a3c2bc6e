"""Textures from the command line: what is written, what is kept, and what a user is told."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from commands.calling import Shell

CELLS = np.random.default_rng(1).permutation(240)[:36].reshape(4, 3, 3)  # a chequer of 12 colours


def saved(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(pixels.astype(np.uint8))
    (image.convert(mode) if mode else image).save(path)
    return path


def chequer(height: int, width: int) -> np.ndarray:
    return np.tile(CELLS, (height // 4 + 1, width // 3 + 1, 1))[:height, :width]


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return saved(tmp_path / "chequer.png", chequer(21, 23))


def picture(folder: Path, name: str = "texture.png") -> np.ndarray:
    return np.asarray(Image.open(folder / name))


def goes_on(made: np.ndarray) -> bool:
    """Whether a picture is the chequer, begun anywhere."""
    height, width = made.shape[:2]
    big = chequer(height + 4, width + 3)
    return any(
        np.array_equal(big[y : y + height, x : x + width], made.reshape(height, width, 3))
        for y in range(4)
        for x in range(3)
    )


@pytest.mark.parametrize("flags", [(), ("--order", "scanline"), ("--tileable",), ("--method", "quilting")])
def test_a_periodic_sample_goes_on(shell: Shell, sample: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    out = tmp_path / "out"
    window = () if "quilting" in flags else ("--window", "7")
    said = shell("texture", sample, "-o", out, "--size", "24x30", "--json", *window, *flags)
    assert said.code == 0, said
    facts = said.json
    made = picture(out)
    assert goes_on(made)
    assert (facts["size"], facts["made"], facts["finished"], facts["channels"]) == ([24, 30], 720, True, 3)
    red, green = (picture(out, "origin.png")[..., channel].astype(int) for channel in (0, 1))
    rows, columns = np.ceil(red * 20 / 255).astype(int), np.ceil(green * 22 / 255).astype(int)
    np.testing.assert_array_equal(chequer(21, 23)[rows, columns], made)  # it tells where pixels come from


def test_size_is_twice_the_sample(shell: Shell, sample: Path, tmp_path: Path) -> None:
    said = shell("texture", sample, "-o", tmp_path / "out")
    assert said.code == 0
    assert picture(tmp_path / "out").shape == (42, 46, 3)
    assert "texture.png: 42 x 46 pixels, 1932 made" in said.out


def test_a_hole_is_closed_and_the_rest_stays(shell: Shell, tmp_path: Path) -> None:
    whole = chequer(26, 25)
    hole = np.zeros((26, 25), bool)
    hole[15:19, 16:21] = True
    scratched = np.where(hole[..., None], 255, whole)
    given = saved(tmp_path / "scratched.png", scratched)
    mask = saved(tmp_path / "mask.png", np.where(hole, 255, 0))
    said = shell("texture", given, "-o", tmp_path / "out", "--mask", mask, "--window", "7", "--json")
    assert said.code == 0, said
    np.testing.assert_array_equal(picture(tmp_path / "out"), whole)
    assert said.json["made"] == 20
    origin = picture(tmp_path / "out", "origin.png")
    assert (origin[~hole] == 128).all()
    assert (origin[hole] != 128).any(axis=1).all()


def test_a_picture_grows(shell: Shell, sample: Path, tmp_path: Path) -> None:
    start = saved(tmp_path / "start.png", chequer(9, 10))
    said = shell(
        "texture", sample, "-o", tmp_path / "out", "--grow-from", start, "--size", "19,20", "--window", "7", "--json"
    )
    assert said.code == 0, said
    made = picture(tmp_path / "out")
    np.testing.assert_array_equal(made[5:14, 5:15], chequer(9, 10))
    assert goes_on(made)


def test_grey_samples_give_grey_textures(shell: Shell, tmp_path: Path) -> None:
    grey = saved(tmp_path / "grey.png", chequer(20, 20)[..., 0])
    facts = shell("texture", grey, "-o", tmp_path / "out", "--window", "5", "--size", "12", "--json").json
    assert facts["channels"] == 1
    made = picture(tmp_path / "out")
    assert made.shape == (12, 12)
    assert set(np.unique(made)) <= set(CELLS[..., 0].ravel())
    start = saved(tmp_path / "start.png", chequer(6, 6))  # in colour: then all is
    facts = shell(
        "texture", grey, "-o", tmp_path / "out", "--window", "5", "--grow-from", start, "--size", "8", "--json"
    ).json
    assert facts["channels"] == 3


@pytest.mark.parametrize("method", ["scanline", "quilting"])
def test_transparent_pixels_are_not_copied(shell: Shell, tmp_path: Path, method: str) -> None:
    """The clear quarter has colours that the opaque rest has not."""
    pixels = np.full((24, 24, 4), 255)
    pixels[..., :3] = np.random.default_rng(3).integers(0, 100, (24, 24, 3))
    pixels[:12, :12, :3] = 200
    pixels[:12, :12, 3] = 0
    given = saved(tmp_path / "rgba.png", pixels)
    said = shell(
        "texture", given, "-o", tmp_path / "out", "--method", method, "--window", "7", "--size", "20", "--json"
    )
    assert said.code == 0, said
    assert picture(tmp_path / "out").max() < 100
    clear = saved(tmp_path / "clear.png", np.zeros((20, 20, 4)))
    assert "transparent throughout" in shell.refused(2, "texture", clear, "-o", tmp_path / "more")


def test_seeds(shell: Shell, tmp_path: Path) -> None:
    noise = saved(tmp_path / "noise.png", np.random.default_rng(0).integers(0, 256, (24, 24, 3)))
    for method in ("scanline", "quilting"):
        made = []
        for out, seed in (("a", 0), ("b", 0), ("c", 1)):
            shell("texture", noise, "-o", tmp_path / out, "--method", method, "--seed", seed, "--window", 7)
            made.append(picture(tmp_path / out))
        assert np.array_equal(made[0], made[1])
        assert not np.array_equal(made[0], made[2])


def test_one_colour_is_said(shell: Shell, tmp_path: Path) -> None:
    plain = saved(tmp_path / "plain.png", np.full((16, 16, 3), (9, 80, 7)))
    for method in ("scanline", "quilting"):
        said = shell("texture", plain, "-o", tmp_path / method, "--method", method)
        assert said.code == 0
        assert "one colour only" in said.out
        assert (picture(tmp_path / method) == (9, 80, 7)).all()


def test_an_interrupt_keeps_what_there_is(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sightline_kernels.scanline import cpu

    monkeypatch.setattr(signal, "getsignal", lambda _: signal.default_int_handler)  # a shell may have it ignored
    real = cpu.synthesise

    def interrupted(*given: Any, tell: Any, **options: Any) -> Any:
        def told(done: int, total: int) -> bool:
            signal.raise_signal(signal.SIGINT)
            return tell(done, total)

        return real(*given, tell=told, **options)

    monkeypatch.setattr(cpu, "synthesise", interrupted)
    monkeypatch.setattr(cpu, "PIECE", 1e6)
    noise = saved(tmp_path / "noise.png", np.random.default_rng(0).integers(0, 256, (40, 40, 3)))
    said = shell("texture", noise, "-o", tmp_path / "out", "--json")
    assert said.code == 130
    assert said.json["finished"] is False
    made = picture(tmp_path / "out")
    assert 0 < (made == 0).all(axis=2).mean() < 1
    assert said.json["made"] == (picture(tmp_path / "out", "origin.png") != 128).any(axis=2).sum()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--window", "10"), ("--window 10 is even", "9 or 11")),
        (("--window", "1"), ("odd and between 3 and 63",)),
        (("--window", "23"), ("21 x 23 pixels", "23 x 23", "--window up to 21")),
        (("--method", "quilting", "--window", "22"), ("--window up to 21",)),
        (("--method", "quilting", "--window", "3"), ("between 4 and 256",)),
        (("--method", "quilting", "--tileable", "--size", "5x40"), ("smaller than a block of 7", "--window up to 5")),
        (("--method", "quilting", "--mask", "x.png"), ("--mask needs --method scanline",)),
        (("--mask", "x.png", "--grow-from", "y.png"), ("give one of them",)),
        (("--mask", "x.png", "--size", "30"), ("leave --size out",)),
        (("--mask", "x.png"), ("x.png",)),
        (("--size", "0x9"), ("--size '0x9' is no size",)),
        (("--size", "100000x100000"), ("--size 100000x100000 is beyond",)),
        (("--seed", "-1"), ("--seed -1",)),
        (("--tolerance", "-0.5"), ("--tolerance -0.5",)),
        (("--threads", "0"), ("for --threads", "at least 1")),
        (("--grow-from", "SAMPLE", "--size", "20x30"), ("21 x 23 pixels and --size 20x30",)),
        (("--method", "gram"), ("gram", "scanline")),
    ],
)
def test_what_cannot_be(
    shell: Shell, sample: Path, tmp_path: Path, flags: tuple[str, ...], words: tuple[str, ...]
) -> None:
    given = [str(sample) if flag == "SAMPLE" else flag for flag in flags]
    code = 3 if flags == ("--mask", "x.png") else 2
    message = shell.refused(code, "texture", sample, "-o", tmp_path / "out", *given)
    assert all(word in message for word in words), message
    assert not (tmp_path / "out").exists()


def test_masks_that_do_not_fit(shell: Shell, sample: Path, tmp_path: Path) -> None:
    masks = {
        "20 x 23 pixels and the picture 21 x 23": np.full((20, 23), 255),
        "marks no pixel": np.zeros((21, 23)),
        "marks every pixel": np.full((21, 23), 255),
        "nowhere 11 x 11": np.indices((21, 23)).sum(axis=0) % 9 * 100,
    }
    for words, pixels in masks.items():
        mask = saved(tmp_path / "mask.png", pixels)
        assert words in shell.refused(2, "texture", sample, "-o", tmp_path / "out", "--mask", mask)


def test_other_peoples_folders_are_left_alone(shell: Shell, sample: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert "holds no texture" in shell.refused(3, "texture", sample, "-o", tmp_path / "mine")
    assert shell("texture", tmp_path / "none.png", "-o", tmp_path / "out").code == 3
