"""Which photographs an audit can look at."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sightline.audit.context import readable
from sightline.errors import NoImages
from sightline.job.inputs import Input


def test_a_broken_photograph_is_named(tmp_path: Path) -> None:
    good, empty = tmp_path / "good.png", tmp_path / "empty.jpg"
    Image.new("RGB", (5, 4)).save(good)
    empty.touch()
    entries = [Input("good.png", good), Input("empty.jpg", empty)]
    kept, aside, digest = readable(entries)
    assert kept == entries[:1]
    assert aside == [("empty.jpg", f"{empty} is empty (0 bytes). Copy the file again.")]
    assert digest == readable(entries[:1])[2]
    Image.new("RGB", (5, 4), "red").save(good)
    assert digest != readable(entries[:1])[2], "other contents under the same name"
    with pytest.raises(NoImages, match=r"None of the 1 images could be read; the first: .*empty\.jpg is empty"):
        readable(entries[1:])
