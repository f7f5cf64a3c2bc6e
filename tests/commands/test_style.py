"""Styles from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands.calling import Shell
from commands.conftest import PLAIN
from sightline.ascent.film import film
from sightline.image import read_image


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (37, 50, 3), dtype=np.uint8)).save(path)
    return path


def test_the_style_in_the_box_paints_a_photograph_at_its_own_size(
    shell: Shell, photograph: Path, tmp_path: Path
) -> None:
    said = shell("style", "apply", "demo", photograph, "-o", tmp_path / "out", "--json", "--threads", "2")
    assert said.code == 0
    assert said.json["painted"] == [str(tmp_path / "out" / "photo.png")]
    painting = np.asarray(read_image(tmp_path / "out" / "photo.png"))
    assert painting.shape == (37, 50, 3)
    picture = np.asarray(read_image(photograph))
    assert np.abs(painting.astype(int) - picture).mean() > 10
    shell("style", "apply", "demo", photograph, "-o", tmp_path / "none", "--strength", "0", "--threads", "2")
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "none" / "photo.png")), picture)
    shell("style", "apply", "demo", photograph, "-o", tmp_path / "small", "--side", "20", "--colour", "luminance")
    assert read_image(tmp_path / "small" / "photo.png").size == (27, 20)


def test_films_are_painted_frame_by_frame(shell: Shell, tmp_path: Path) -> None:
    import av

    frames = np.random.default_rng(4).integers(0, 256, (5, 32, 48, 3), dtype=np.uint8)
    (tmp_path / "film.mp4").write_bytes(film(frames, ".mp4", rate=10))
    assert shell("style", "apply", "demo", tmp_path / "film.mp4", "-o", tmp_path / "out", "--threads", "2").code == 0
    with av.open(str(tmp_path / "out" / "film.mp4")) as container:
        shapes = [frame.to_ndarray(format="rgb24").shape for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 10
    assert shapes == [(32, 48, 3)] * 5


def test_what_cannot_be_painted_is_set_aside(shell: Shell, photograph: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"nothing")
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    said = shell(
        "style", "apply", "demo", photograph, tmp_path / "broken.png", tmp_path / "broken.mp4", "-o", tmp_path / "out"
    )
    assert said.code == 4
    assert said.err.count("Set aside") == 2
    assert (tmp_path / "out" / "photo.png").is_file()


def test_a_style_is_trained_stopped_and_applied(shell: Shell, net: Path, photograph: Path, tmp_path: Path) -> None:
    given = (
        photograph, photograph, "--model", net, *PLAIN, "-o", tmp_path / "mine", "--steps", "3", "--crop", "16",
        "--width", "2", "--blocks", "1", "--batch", "1", "--style-side", "24", "--threads", "2",
    )  # fmt: skip
    said = shell("style", "train", *given)
    assert said.code == 0, said
    assert "finished" in said.out
    assert "Give --resume" in shell.refused(3, "style", "train", *given)
    assert shell("style", "train", *given, "--resume").code == 0
    assert shell("style", "apply", tmp_path / "mine", photograph, "-o", tmp_path / "out").code == 0
    assert read_image(tmp_path / "out" / "photo.png").size == (50, 37)


def test_several_styles_are_trained_chosen_and_mixed(
    shell: Shell, net: Path, photograph: Path, tmp_path: Path
) -> None:
    folder, made = tmp_path / "mine", dict[str, np.ndarray]()
    for name in ("brick", "coffee"):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (30, 28, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    small = ("--steps", "4", "--crop", "16", "--width", "2", "--blocks", "1", "--batch", "2", "--rate", "0.1")
    said = shell(
        "style", "train", tmp_path / "brick.png", photograph, "--style", tmp_path / "coffee.png", photograph,
        "--model", net, *PLAIN, "-o", folder, *small, "--style-side", "24", "--threads", "2",
    )  # fmt: skip
    assert said.code == 0, said
    assert sorted(path.name for path in (folder / "styles").iterdir()) == ["brick.png", "coffee.png"]
    ways = {
        "first": (), "brick": ("--style", "brick"), "coffee": ("--shares", "brick=0,coffee=2"),
        "mixed": ("--shares", "brick=1,coffee=3"), "sheet": ("--between", "brick,coffee"),
        "weak": ("--style", "coffee", "--strength", "0"),
    }  # fmt: skip
    for name, flags in ways.items():
        said = shell("style", "apply", folder, photograph, "-o", tmp_path / name, *flags, "--threads", "2", "--json")
        assert said.code == 0, said
        made[name] = np.asarray(read_image(tmp_path / name / "photo.png"))
    np.testing.assert_array_equal(made["first"], made["brick"])
    np.testing.assert_array_equal(made["weak"], np.asarray(read_image(photograph)))
    parts = np.split(made["sheet"], 5, axis=1)
    for place, name in ((0, "brick"), (3, "mixed"), (4, "coffee")):
        np.testing.assert_array_equal(parts[place], made[name])
    assert np.abs(made["brick"].astype(int) - made["coffee"]).max() > 0

    given = ("style", "apply", folder, photograph, "-o", tmp_path / "out")
    assert "Did you mean 'coffee'" in shell.refused(2, *given, "--style", "cofee")
    assert "Did you mean 'brick'" in shell.refused(2, *given, "--shares", "brik=1")
    assert "must be a finite number" in shell.refused(2, *given, "--shares", "brick=-1,coffee=2")
    assert "must be a finite number" in shell.refused(2, *given, "--shares", "brick=nan,coffee=2")
    assert "above 0" in shell.refused(2, *given, "--shares", "brick=0,coffee=0")
    assert "NAME=NUMBER" in shell.refused(2, *given, "--shares", "brick")
    assert "must name two styles" in shell.refused(2, *given, "--between", "brick")
    assert "Give one of them" in shell.refused(2, *given, "--between", "brick,coffee", "--style", "brick")
    for flags in (("--style", "brick"), ("--shares", "brick=1"), ("--between", "brick,coffee")):
        said_of_one = shell.refused(2, "style", "apply", "demo", photograph, "-o", tmp_path / "out", *flags)
        assert "holds one style" in said_of_one
    assert not (tmp_path / "out").exists()


def test_styles_that_cannot_be_learnt(shell: Shell, net: Path, photograph: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (120, 4, 7)).save(tmp_path / "flat.png")
    given = ("--model", net, *PLAIN, "-o", tmp_path / "out")
    flat = tmp_path / "flat.png"
    assert "flat.png has one colour" in shell.refused(2, "style", "train", flat, photograph, *given)
    assert "flat.png has one colour" in shell.refused(
        2, "style", "train", photograph, photograph, "--style", flat, *given
    )
    twice = shell.refused(2, "style", "train", photograph, photograph, "--style", photograph, *given)
    assert "given as a style 2 times" in twice
    assert not (tmp_path / "out").exists()
    said = shell("run", "style_transfer", net, photograph, "--style", flat, *PLAIN, "-o", tmp_path / "descent")
    assert said.code == 2
    assert "flat.png has one colour" in said.err


def test_mistakes_are_told(shell: Shell, net: Path, photograph: Path, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "out")
    assert "Give demo" in shell.refused(2, "style", "apply", tmp_path / "none", photograph, *out)
    assert "--strength 2" in shell.refused(2, "style", "apply", "demo", photograph, *out, "--strength", "2")
    assert "Name the pictures" in shell.refused(2, "style", "apply", "demo", *out)
    assert "Name the pictures" in shell.refused(2, "style", "train", photograph, "--model", net, *PLAIN, *out)
    crop = ("--crop", "30", "--model", net, *PLAIN, *out)
    assert "crop=30" in shell.refused(2, "style", "train", photograph, photograph, *crop)
    missing = ("style", "train", tmp_path / "no.jpg", photograph, "--model", net, *PLAIN, *out)
    assert "cannot be read" in shell.refused(3, *missing)
    assert not (tmp_path / "out").exists()


def test_a_photograph_is_painted_by_descent(shell: Shell, net: Path, photograph: Path, tmp_path: Path) -> None:
    said = shell(
        "run", "style_transfer", net, photograph, "--style", photograph, *PLAIN, "-o", tmp_path / "out",
        "--steps", "2", "--report", "--overlays", "--threads", "2", "--frames", "2",
    )  # fmt: skip
    assert said.code == 0, said
    assert (tmp_path / "out" / "paintings" / "photo.png").is_file()
    assert (tmp_path / "out" / "paintings" / "photo.gif").is_file()
    assert "style loss" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_style_is_compared_in_every_way(shell: Shell, net: Path, photograph: Path, tmp_path: Path) -> None:
    small = ("--model", net, *PLAIN, "--side", "40", "--steps", "2", "--threads", "2")
    said = shell("style", "compare", "demo", photograph, "-o", tmp_path / "out", *small, "--json")
    assert said.code == 0, said
    made = {one["name"]: one for one in said.json["made"]}
    assert list(made) == ["sample", "scanline", "quilting", "gram", "content", "slow", "fast"]
    assert all(made[name]["seconds"] > 0 for name in ("scanline", "quilting", "gram", "slow", "fast"))
    assert made["content"]["content_loss"] == 0
    sizes = [read_image(tmp_path / "out" / f"{name}.png").size for name in made if name != "sample"]
    assert {min(size) for size in sizes} == {40}
    page = (tmp_path / "out" / "style.html").read_text(encoding="utf-8")
    assert "times as fast" in page
    said = shell("style", "compare", photograph, photograph, "-o", tmp_path / "picture", *small)
    assert said.code == 0, said
    assert "No network was trained" in said.out
    assert not (tmp_path / "picture" / "fast.png").exists()
    assert "holds no comparison" in shell.refused(3, "style", "compare", "demo", photograph, "-o", tmp_path, *small)
