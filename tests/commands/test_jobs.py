"""sightline jobs, workers and limits as a user calls them, on a network small enough to check by hand."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from commands.calling import Shell
from commands.conftest import PLAIN
from sightline import open_job
from sightline.commands._workers import parse_seconds
from sightline.errors import UsageError
from sightline.image import read_image

FLAGS = (*PLAIN, "--window", "3", "--stride", "2", "--shard", "2", "--batch", "2", "--threads", "1")


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "shards").iterdir())}


@pytest.fixture
def done(shell: Shell, net: Path, noise_folder: Path, tmp_path: Path) -> Path:
    """An occlusion job over five pictures."""
    assert shell("run", "occlusion", net, noise_folder, "-o", tmp_path / "done", *FLAGS).code == 0
    return tmp_path / "done"


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def test_show_and_verify(shell: Shell, done: Path) -> None:
    said = shell("jobs", "show", done)
    assert said.code == 0
    assert "finished" in said.out
    assert "5 of 5 (100.0%): 5 rows, 0 set aside" in said.out
    facts = shell("jobs", "show", done, "--json").json
    assert (facts["done"], facts["finished"], facts["shards"], facts["writer"]) == (5, True, [3, 3], "")
    assert facts["rate"][0] > 0
    assert shell("jobs", "verify", done, "--json").json["sound"] is True
    flip_a_bit(done / "shards/000001.npy")
    said = shell("jobs", "verify", done)
    assert said.code == 1
    assert "000001.npy" in said.out
    assert shell("jobs", "show", done / "shards").code == 2


def test_export_to_parquet_is_read_as_an_array(shell: Shell, done: Path, tmp_path: Path) -> None:
    assert shell("jobs", "export", done, tmp_path / "rows.parquet").code == 0
    table = pq.read_table(tmp_path / "rows.parquet")
    job = open_job(done)
    np.testing.assert_array_equal(table.column("values").combine_chunks().to_numpy_ndarray(), job.values())
    assert table.drop_columns("values").to_pydict() == job.table().to_pydict()
    assert shell("jobs", "export", done, tmp_path / "rows.parquet").code == 3, "nothing is overwritten"


def test_export_to_zarr(shell: Shell, done: Path, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed: pip install 'sightline[zarr]'")
    assert shell("jobs", "export", done, tmp_path / "rows.zarr", "--json").json["rows"] == 5
    group = zarr.open_group(str(tmp_path / "rows.zarr"), mode="r")
    np.testing.assert_array_equal(group["values"][:], open_job(done).values())
    assert group.attrs["sightline"]["method"].startswith("Occlusion")
    ids = pq.read_table(tmp_path / "rows.zarr/rows.parquet").column("id").to_pylist()
    assert ids == [f"{row}.png" for row in range(5)]


def test_export_to_pictures(shell: Shell, net: Path, done: Path, tmp_path: Path) -> None:
    assert shell("jobs", "export", done, tmp_path / "plain").code == 0
    assert shell("jobs", "export", done, tmp_path / "laid", "--model", net, *PLAIN).code == 0
    for folder in ("plain", "laid"):
        names = sorted(path.name for path in (tmp_path / folder).iterdir())
        assert names == [f"{row}.png.png" for row in range(5)]
    plain, laid = (np.asarray(read_image(tmp_path / folder / "0.png.png")) for folder in ("plain", "laid"))
    assert plain.shape[1] > 50
    assert plain.shape != laid.shape or (plain != laid).any(), "the photograph shows"
    said = shell("jobs", "export", done, tmp_path / "laid")
    assert said.code == 3
    assert "not empty" in said.err


@pytest.mark.parametrize("name", ["rows.csv", "maps.png", "rows.parquet.gz"])
def test_export_to_a_suffix_that_says_nothing_is_refused(shell: Shell, done: Path, tmp_path: Path, name: str) -> None:
    said = shell("jobs", "export", done, tmp_path / name)
    assert said.code == 2
    assert "Accepted: NAME.parquet, NAME.zarr, or a folder for pictures" in said.err
    assert not (tmp_path / name).exists()
    assert shell("jobs", "export", done, tmp_path / name, "--to", "png").code == 0


def test_all_parts_of_a_bank_are_shown_verified_and_exported(
    shell: Shell, net: Path, noise_folder: Path, tmp_path: Path
) -> None:
    bank, files = tmp_path / "bank", sorted(noise_folder.iterdir())
    for paths, flags in ((files[:2], ()), (files[2:], ("--append",))):
        assert shell("index", net, *paths, "-o", bank, *PLAIN, *flags).code == 0
    assert "5 of 5 (100.0%): 5 rows" in shell("jobs", "show", bank).out
    facts = shell("jobs", "show", bank, "--json").json
    assert (facts["parts"], facts["inputs"], facts["rows"], facts["shards"]) == (2, 5, 5, [2, 2])
    assert shell("jobs", "export", bank, tmp_path / "rows.parquet", "--json").json["rows"] == 5
    assert pq.read_table(tmp_path / "rows.parquet").column("id").to_pylist() == [path.name for path in files]
    assert shell("jobs", "verify", bank, "--json").json["rows"] == 5
    flip_a_bit(bank / "parts/0000/shards/000000.npy")
    said = shell("jobs", "verify", bank)
    assert said.code == 1
    assert "parts/0000/shards/000000.npy" in said.out
    assert "new folder" in said.out


def test_workers_write_the_same_bytes_from_an_archive(
    shell: Shell, net: Path, noise_folder: Path, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "in.tar", "w") as archive:
        for path in sorted(noise_folder.iterdir()):
            archive.add(path, path.name)
    for out, flags in (("one", ()), ("two", ("--workers", "2"))):
        said = shell("run", "occlusion", net, tmp_path / "in.tar", "-o", tmp_path / out, *FLAGS, *flags, "--json")
        assert said.code == 0, said.err
        assert said.json["done"] == 5
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert open_job(tmp_path / "two").table().column("path")[0].as_py() == f"{tmp_path}/in.tar/0.png"
    said = shell("index", net, tmp_path / "in.tar", "-o", tmp_path / "bank", *PLAIN, "--workers", "2", "--json")
    assert said.code == 0, said.err
    assert said.json["images"] == 5
    assert shell("jobs", "show", tmp_path / "bank").code == 0


def test_limits_and_retries(shell: Shell, net: Path, noise_folder: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for path in noise_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "3.png").write_bytes(b"")
    call = ("run", "occlusion", net, folder, "-o", out, *FLAGS)
    said = shell(*call, "--max-memory", "1MB")
    assert said.code == 130
    assert "memory limit" in said.err
    assert "begun is finished (the memory limit of 1 MiB" in said.err
    assert "Ctrl-C twice" in said.err
    assert "again" not in said.err, "nobody has pressed it yet"
    assert shell(*call, "--resume", "--max-time", "1h").code == 4
    (folder / "3.png").write_bytes((noise_folder / "3.png").read_bytes())
    assert shell(*call, "--retry-failed").code == 0
    assert shell("run", "occlusion", net, noise_folder, "-o", tmp_path / "whole", *FLAGS).code == 0
    assert open_job(out).values().tobytes() == open_job(tmp_path / "whole").values().tobytes()
    assert shell(*call, "--resume", "--workers", "0").code == 2
    assert shell(*call, "--resume", "--on", "mars").code == 2
    assert shell(*call, "--resume", "--max-time", "soon").code == 2
    said = shell(*call, "--resume", "--on", "ray:auto", "--overlays")
    assert said.code == 2
    assert "other machines" in said.err


def test_times() -> None:
    assert [parse_seconds(text, "--x") for text in ("90", "90s", "1.5m", "8h", "2d", None)] == [
        90, 90, 90, 28_800, 172_800, None,
    ]  # fmt: skip
    for text in ("", "h", "-3s", "nan", "1y"):
        with pytest.raises(UsageError):
            parse_seconds(text, "--x")
