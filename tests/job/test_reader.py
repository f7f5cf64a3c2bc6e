"""Opening a job, and finding out whether it is still what was written."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sightline.job
from job.fake_job import HEADER, explain, load, make_inputs, tensor_of
from sightline.errors import DamagedOutput, SightlineError, UsageError
from sightline.job.manifest import MANIFEST, read_manifest, shard_lines
from sightline.job.reader import open_job
from sightline.job.run import run_job
from sightline.job.shard import read_shard, write_shard


@pytest.fixture
def out(tmp_path: Path) -> Path:
    run_job(tmp_path / "out", HEADER, make_inputs(23, {4: "bad", 21: "nan"}), load, explain)
    return tmp_path / "out"


def test_the_readme_reads_a_job_without_sightline(out: Path, monkeypatch: pytest.MonkeyPatch):
    readme = Path(sightline.job.__file__).with_name("README.md").read_text()
    code = readme.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(out.parent)
    (out.parent / "OUT").symlink_to(out)
    scope: dict[str, Any] = {}
    exec(code, scope)
    values, tables = zip(*scope["parts"], strict=True)
    np.testing.assert_array_equal(np.concatenate(values), open_job(out).values())
    assert [name for table in tables for name in table["id"].to_pylist()] == open_job(out).table()["id"].to_pylist()


def test_iteration_gives_mapped_values_and_their_table(out: Path):
    job = open_job(str(out))
    assert len(job) == 21
    seen = 0
    for values, table in job:
        assert isinstance(values, np.memmap)
        for row, name in zip(values, table.column("id").to_pylist(), strict=True):
            np.testing.assert_array_equal(row, 2 * tensor_of(name).mean(axis=0))
            seen += 1
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0
    assert seen == 21
    assert job.header == HEADER


@pytest.mark.parametrize("seed", [3, 4])
def test_verify_finds_a_flipped_bit_in_any_file(out: Path, seed: int):
    draw = random.Random(seed)
    for path in sorted((out / "shards").iterdir()):
        content = path.read_bytes()
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        assert [str(path) in fault and "sha256" in fault for fault in open_job(out).verify()] == [True]
        path.write_bytes(content)
    assert open_job(out).verify() == []


def test_verify_names_what_is_missing_or_short(out: Path):
    (out / "shards/000000.npy").unlink()
    with (out / "shards/000002.parquet").open("ab") as file:
        file.write(b"x")
    missing, long = open_job(out).verify()
    assert "000000.npy is missing" in missing
    assert "000002.parquet has" in long
    with pytest.raises(DamagedOutput, match=r"000000\.npy is missing"):
        open_job(out).values()
    with pytest.raises(DamagedOutput, match=r"000002\.parquet"):
        open_job(out).table()


def test_verify_counts_every_input_once(out: Path):
    """A sound shard with the rows of another: hashes cannot tell, ids can."""
    first = open_job(out).shards[1]
    values, table = read_shard(out, first)
    columns = table.to_pydict()
    columns["id"][0] = columns["id"][1]
    changed = write_shard(out, 1, np.array(values), columns)
    with (out / MANIFEST).open("ab") as file:
        file.write(shard_lines(changed, []))
    assert ["ids in the tables" in fault for fault in open_job(out).verify()] == [True]
    fewer = write_shard(out, 1, np.array(values)[:-1], {name: column[:-1] for name, column in columns.items()})
    with (out / MANIFEST).open("ab") as file:
        file.write(shard_lines(fewer, []))
    assert open_job(out).verify() == ["Shard 1 has 6 rows and 0 set aside for 7 inputs."]


def test_an_array_that_is_not_what_the_manifest_says(out: Path):
    shard = open_job(out).shards[2]
    path = out / "shards/000002.npy"
    path.write_bytes(path.read_bytes().replace(b"(7, 5, 7)", b"(5, 7, 7)"))
    with pytest.raises(DamagedOutput, match=r"holds <f4 \(5, 7, 7\), the manifest says <f4 \(7, 5, 7\)"):
        read_shard(out, shard)
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(DamagedOutput, match="is no array of NumPy"):
        read_shard(out, shard)
    table = out / "shards/000002.parquet"
    table.write_bytes(b"\0" * table.stat().st_size)
    with pytest.raises(DamagedOutput, match="is no Parquet table"):
        open_job(out).table()


def test_a_job_can_be_moved(out: Path, tmp_path: Path):
    shutil.move(out, tmp_path / "elsewhere")
    assert open_job(tmp_path / "elsewhere").verify() == []


def test_no_job(tmp_path: Path):
    with pytest.raises(UsageError, match=r"there is no manifest\.jsonl"):
        open_job(tmp_path)
    assert read_manifest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("dtype", [">f4", "<f2", ">i8", "u1", "?", "<i4"])
@pytest.mark.parametrize("seed", [11])
def test_shards_are_little_endian_and_exact(tmp_path: Path, dtype: str, seed: int):
    (tmp_path / "shards").mkdir()
    values = np.asfortranarray(np.random.default_rng(seed).integers(0, 2, (3, 5, 2)) * 1.5).astype(dtype)
    shard = write_shard(tmp_path, 12, values, {"id": ["a", "b", "c"], "found": [[1.0, 2.0], [], None]})
    stored, table = read_shard(tmp_path, shard)
    np.testing.assert_array_equal(stored, values)
    assert stored.dtype.str == shard.dtype
    assert stored.dtype.str[0] in "<|"
    assert stored.flags.c_contiguous
    assert table.column("found").to_pylist() == [[1.0, 2.0], [], None]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path):
    table = {"id": ["a", "b"], "score": [np.float32(0.1), np.float32(2)], "classes": [[3, 1], [2, 2]]}
    for name in ("one", "two"):
        (tmp_path / name / "shards").mkdir(parents=True)
    one = write_shard(tmp_path / "one", 0, np.ones((2, 3), np.float32), table)
    two = write_shard(tmp_path / "two", 0, np.ones((2, 3), np.float32), dict(table))
    assert one == two
    assert one.values is not None
    assert (tmp_path / "one" / one.values.file).read_bytes() == (tmp_path / "two" / one.values.file).read_bytes()


@pytest.mark.parametrize(
    ("values", "table", "said"),
    [
        (np.zeros((2, 3)), {"id": ["a", "b"]}, "not float64"),
        (np.zeros(2, complex), {"id": ["a", "b"]}, "not complex128"),
        (np.zeros(2, np.float32), {"id": ["a"]}, "'id' has 1 values for 2 rows"),
        (np.zeros(2, np.float32), {"id": ["a", object()]}, "'id' does not fit a table"),
    ],
)
def test_what_no_shard_can_hold(tmp_path: Path, values: np.ndarray, table: dict[str, list[object]], said: str):
    (tmp_path / "shards").mkdir()
    with pytest.raises(SightlineError, match=said):
        write_shard(tmp_path, 0, values, table)
    assert list((tmp_path / "shards").iterdir()) == []
