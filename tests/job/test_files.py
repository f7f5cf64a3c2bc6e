"""A file has its name once all of it is there, and not before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.job.files import append_durably, cut, write_atomically


@pytest.mark.parametrize("before", [None, b"the old content"])
def test_the_name_appears_with_the_last_byte(tmp_path: Path, before: bytes | None):
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)

    def pieces() -> Iterator[bytes]:
        for piece in (b"one", b"two"):
            assert (path.read_bytes() if path.exists() else None) == before
            yield piece

    assert write_atomically(path, pieces()) == hashlib.sha256(b"onetwo").hexdigest()
    assert path.read_bytes() == b"onetwo"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_what_fails_half_way_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"the old content")

    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, pieces())
    assert path.read_bytes() == b"the old content"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_appending_and_cutting(tmp_path: Path):
    path = tmp_path / "file"
    for text in (b"one\n", b"", b"two\n"):
        append_durably(path, text)
    assert path.read_bytes() == b"one\ntwo\n"
    cut(path, 100)
    assert path.read_bytes() == b"one\ntwo\n"
    cut(path, 4)
    assert path.read_bytes() == b"one\n"
