"""Which inputs a job has, and what they are called."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.errors import BadImage, NoImages, UsageError
from sightline.job.inputs import Input, inputs_from, load_photo, printable
from sightline.types import FloatArray, Photo


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 6, 3), len(name), np.uint8)).save(path)


def ids(*paths: Path | str) -> list[str]:
    return [one.id for one in inputs_from(paths).entries]


def test_ids_are_relative_to_the_folder_or_the_file_name(tmp_path: Path):
    make(tmp_path, "in/b.png", "in/deep/er/a.png", "single.png")
    assert ids(tmp_path / "in") == ["b.png", "deep/er/a.png"]
    assert ids(tmp_path / "single.png", tmp_path / "in") == ["single.png", "b.png", "deep/er/a.png"]
    assert ids(f"{tmp_path}/in/**/a.png") == ["a.png"]


def test_collisions_take_the_folders_that_tell_them_apart(tmp_path: Path):
    make(tmp_path, "x/cats/1.png", "x/dogs/1.png", "x/dogs/2.png", "y/cats/1.png")
    assert ids(tmp_path / "x/cats", tmp_path / "x/dogs") == ["cats/1.png", "dogs/1.png", "2.png"]
    assert ids(tmp_path / "x/cats", tmp_path / "y/cats") == ["x/cats/1.png", "y/cats/1.png"]
    assert ids(tmp_path / "x", tmp_path / "y") == ["x/cats/1.png", "dogs/1.png", "dogs/2.png", "y/cats/1.png"]


def test_an_image_given_twice_is_one_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make(tmp_path, "in/a.png", "in/b.png")
    monkeypatch.chdir(tmp_path)
    assert ids("in", tmp_path / "in/a.png", "./in/../in/b.png") == ["a.png", "b.png"]


def test_neither_working_directory_nor_spelling_changes_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make(tmp_path, "in/a.png", "in/b/c.png")
    absolute = inputs_from([tmp_path / "in"])
    monkeypatch.chdir(tmp_path / "in")
    assert inputs_from(["."]) == absolute
    assert inputs_from(["../in/"]).sha256 == absolute.sha256


def test_the_digest_tells_order_and_borders(tmp_path: Path):
    make(tmp_path, "ab/c.png", "a/bc.png")
    assert (
        inputs_from([tmp_path / "ab", tmp_path / "a"]).sha256 != inputs_from([tmp_path / "a", tmp_path / "ab"]).sha256
    )
    assert inputs_from([tmp_path / "a"]).sha256 == hashlib.sha256(b"bc.png\0").hexdigest()


def test_names_that_are_no_text(tmp_path: Path):
    name = os.fsdecode(b"caf\xe9.png")
    make(tmp_path, "plain.png")
    try:
        (tmp_path / name).write_bytes((tmp_path / "plain.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes no such name")
    inputs = inputs_from([tmp_path])
    assert sorted(one.id for one in inputs.entries) == ["caf\\xe9.png", "plain.png"]
    assert inputs.sha256
    assert printable(tmp_path / name).encode()
    loaded = load_photo(lambda image, photo: (np.asarray(image), photo))(inputs.entries[0])
    assert loaded.tensor.shape == (4, 6, 3)


def test_nothing_found(tmp_path: Path):
    with pytest.raises(NoImages):
        inputs_from([tmp_path])


def test_photos_are_read_once_and_digested(tmp_path: Path):
    make(tmp_path, "a.png")
    load = load_photo(lambda image, photo: (np.asarray(image, np.float32).transpose(2, 0, 1), photo))
    loaded = load(Input("a", tmp_path / "a.png"))
    assert loaded.photo.sha256 == hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    np.testing.assert_array_equal(loaded.tensor, np.full((3, 4, 6), 5))
    (tmp_path / "b.png").write_bytes(b"no image")
    for path, said in (
        (tmp_path / "b.png", "not an image"),
        (tmp_path / "none.png", "No such file"),
        (None, "no file"),
    ):
        with pytest.raises(BadImage, match=said):
            load(Input("x", path))
    with pytest.raises(BadImage, match="Is a directory"):
        load(Input("x", tmp_path))


@pytest.mark.parametrize(
    ("met", "told"),
    [(ValueError("no such size"), BadImage), (MemoryError(), MemoryError), (UsageError("no size"), UsageError)],
)
def test_what_one_image_cannot_be_made_of_is_its_own_fault(tmp_path: Path, met: Exception, told: type[Exception]):
    make(tmp_path, "a.png")

    def photograph(image: object, photo: Photo) -> tuple[FloatArray, Photo]:
        raise met

    with pytest.raises(told):
        load_photo(photograph)(Input("a", tmp_path / "a.png"))
