"""Banks on disk: every content once, exact rows, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import sightline
from sightline.bank.bank import open_bank
from sightline.bank.exporting import to_faiss, to_parquet
from sightline.bank.files import bank_from_file
from sightline.bank.writing import bank_of, shard_size
from sightline.cli import call
from sightline.demo.dataset import batch
from sightline.errors import OutputConflict, UnknownName, UsageError
from sightline.methods.forward.features import Features


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images, one of them twice, in folders of their classes, and a file that is no image."""
    folder = tmp_path_factory.mktemp("scenes")
    for number, pixels in enumerate(batch(3, range(12)).images):
        path = folder / f"class{number % 3}" / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    shutil.copy(folder / "class0" / "00.png", folder / "class2" / "again.png")
    (folder / "class1" / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def bank(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("banks") / "bank"
    flags = ["--layer", "stage2.relu,pool", "--space", "both", "--pixels", "8", "--threads", "2", "--batch", "4"]
    assert call(["index", "demo", str(scenes), "-o", str(out), *flags]) == 4  # one set aside
    return out


def test_rows_are_those_of_the_method(bank: Path, scenes: Path) -> None:
    opened = open_bank(bank)
    assert len(opened) == 12
    assert opened.duplicates == {"class2/again.png": "class0/00.png"}
    assert [one.id for one in opened.set_aside] == ["class1/broken.png"]
    assert not opened.verify()
    with sightline.load("demo") as model:
        images = sightline.read([opened.paths[5]], like=model)
        alone = model.explain(images, Features(layers=("stage2.relu", "pool"), pixels=8), threads=2)
    for space in opened.spaces:
        np.testing.assert_allclose(opened.values(space)[5], space.of(alone.values)[0], rtol=1e-5, atol=1e-6)
    assert opened.space("pixel").features == 3 * 8 * 8
    assert opened.space("feature").name == "stage2.relu"
    with pytest.raises(UnknownName, match=r"No space is named 'stage9'. Did you mean 'stage2.relu'"):
        opened.space("stage9")


def test_more_images_are_appended_and_old_ones_recognised(bank: Path, scenes: Path, tmp_path: Path) -> None:
    grown, more = tmp_path / "grown", tmp_path / "more"
    shutil.copytree(bank, grown)
    more.mkdir()
    Image.fromarray(batch(4, range(1)).images[0]).save(more / "new.png")
    shutil.copy(scenes / "class1" / "01.png", more / "old.png")
    flags = ["--layer", "stage2.relu,pool", "--space", "both", "--pixels", "8", "--threads", "2"]
    assert call(["index", "demo", str(more), "-o", str(grown), *flags]) == 3  # neither --append nor --resume
    assert call(["index", "demo", str(more), "-o", str(grown), *flags, "--append"]) == 0
    opened = open_bank(grown)
    assert opened.ids[-1] == "new.png"
    assert opened.duplicates["old.png"] == "class1/01.png"
    before = open_bank(bank)
    for space in opened.spaces:
        np.testing.assert_array_equal(opened.values(space)[:12], before.values(space))


def test_another_kind_of_bank_is_refused(bank: Path, scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["index", "demo", str(scenes), "-o", str(bank), "--layer", "pool", "--append"]) == 3
    assert "bank of another kind" in capsys.readouterr().err
    assert call(["index", "demo", str(scenes), "-o", str(scenes)]) in (2, 3)
    assert "holds no bank" in capsys.readouterr().err


def test_a_bank_that_was_cut_short_goes_on_to_the_same_bytes(bank: Path, scenes: Path, tmp_path: Path) -> None:
    """The last shard's line is cut off, as a kill would leave it."""
    out = tmp_path / "cut"
    shutil.copytree(bank, out)
    part = out / "parts" / "0000"
    lines = (part / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    (part / "manifest.jsonl").write_bytes(b"".join(lines[:1]) + lines[1][:20])
    whole = {path.name: path.read_bytes() for path in (part / "shards").iterdir()}
    flags = ["--layer", "stage2.relu,pool", "--space", "both", "--pixels", "8", "--threads", "2", "--batch", "4"]
    assert call(["index", "demo", str(scenes), "-o", str(out), *flags, "--resume"]) == 4
    assert {path.name: path.read_bytes() for path in (part / "shards").iterdir()} == whole


def test_a_refused_call_leaves_the_record_of_duplicates(bank: Path, scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "bank"
    shutil.copytree(bank, out)
    flags = ["--layer", "stage2.relu,pool", "--space", "both", "--pixels", "8", "--threads", "2", "--batch", "4"]
    assert call(["index", "demo", str(scenes / "class1"), "-o", str(out), *flags, "--resume"]) == 3  # other images
    assert open_bank(out).duplicates == {"class2/again.png": "class0/00.png"}


def test_features_that_somebody_has_already(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(70, 5)).astype(np.float16)
    opened = bank_of(tmp_path / "own", rows, ids=tuple(f"row {n}" for n in range(70)))
    np.testing.assert_array_equal(opened.values(opened.space()), rows)
    assert opened.ids[69] == "row 69"
    np.save(tmp_path / "rows.npy", rows)
    read = bank_from_file(tmp_path / "b", str(tmp_path / "rows.npy"))
    np.testing.assert_array_equal(read.values(read.space()), rows)
    with pytest.raises(OutputConflict, match="is a bank already"):
        bank_of(tmp_path / "own", rows)
    rows[3, 2] = np.nan
    with pytest.raises(UsageError, match="Row 3 of the features holds NaN"):
        bank_of(tmp_path / "bad", rows)
    with pytest.raises(UsageError, match=r"\(5,\); \(rows, features\) are needed"):
        bank_of(tmp_path / "flat", rows[0])


def test_vectors_in_a_parquet_column(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = np.random.default_rng(2).normal(size=(9, 4)).astype(np.float32)
    pq.write_table(pa.table({"id": [f"n{k}" for k in range(9)], "vector": rows.tolist()}), tmp_path / "t.parquet")
    opened = bank_from_file(tmp_path / "bank", f"{tmp_path}/t.parquet:vector")
    np.testing.assert_array_equal(opened.values(opened.space()), rows)
    assert opened.ids[8] == "n8"
    with pytest.raises(UsageError, match=r"has no column 'vectors'. It has: id, vector"):
        bank_from_file(tmp_path / "other", f"{tmp_path}/t.parquet:vectors")


def test_shards_stay_small() -> None:
    assert shard_size(512, "float32") == 1024
    assert shard_size(169 * 512, "float32") * 169 * 512 * 4 <= 64 << 20
    assert shard_size(10**9, "float32") == 1


def test_source_is_remembered(bank: Path) -> None:
    record = json.loads((bank / "source.json").read_text())
    assert record["model"] == "demo"
    assert record["features"]["pixels"] == 8


def test_banks_for_others(bank: Path, tmp_path: Path) -> None:
    opened = open_bank(bank)
    space = opened.space("stage2.relu")
    values = opened.values(space)
    table = pq.read_table(to_parquet(opened, tmp_path / "bank.parquet", space))
    assert table.column("id").to_pylist() == list(opened.ids)
    np.testing.assert_array_equal(np.array(table.column("vector").to_pylist(), np.float32), values)
    faiss = pytest.importorskip("faiss", reason="FAISS is not installed")
    index = to_faiss(opened, "stage2.relu")
    assert isinstance(index, faiss.IndexFlat)
    _, found = index.search(np.asarray(values, np.float32), 1)
    np.testing.assert_array_equal(found[:, 0], np.arange(len(opened)))
    with pytest.raises(UsageError, match="factory='Flt' is none that FAISS knows"):
        to_faiss(opened, factory="Flt")


def test_every_position_is_a_row_of_the_exported_table(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "positions"
    flags = ["--layer", "stage2.relu", "--pool", "none", "--threads", "2", "--dtype", "float16"]
    assert call(["index", "demo", str(scenes / "class0"), "-o", str(out), *flags]) == 0
    opened = open_bank(out)
    space = opened.space()
    table = pq.read_table(to_parquet(opened, tmp_path / "all.parquet"))
    assert table.num_rows == len(opened) * space.positions
    last = table.slice(space.positions, 1 + space.grid[1] + 1).to_pylist()[-1]  # of the second image: row 1, column 1
    assert (last["id"], last["row"], last["column"]) == (opened.ids[1], 1, 1)
    row = space.positions + space.grid[1] + 1
    np.testing.assert_array_equal(np.array(last["vector"], np.float16), opened.values(space)[row])
    assert opened.place(row, space) == (1, 1, 1)
