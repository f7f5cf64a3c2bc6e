"""sightline run: what it writes, prints and returns, on a network small enough to check by hand."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands.calling import Shell
from problems import convolutional, linear
from sightline import cli, open_job

PLAIN = ("--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25")


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "shards").iterdir())}


def as_input(folder: Path) -> np.ndarray:
    """(B, 3, 7, 6): what the flags above make of every picture."""
    rows = []
    for path in sorted(folder.iterdir()):
        image = Image.open(path).convert("RGB").resize((6, 7), Image.Resampling.BILINEAR)
        rows.append((np.asarray(image).transpose(2, 0, 1) / 255 - 0.5) / 0.25)
    return np.array(rows)


def test_json_is_one_object_and_the_numbers_are_right(
    shell: Shell, net: Path, noise_folder: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("ant\nbee\ncat\ndog\n")
    out = tmp_path / "out"
    said = shell("run", "predict", net, noise_folder, "-o", out, *PLAIN, "--labels", labels, "--json")
    assert said.code == 0
    assert said.out.count("\n") == 1
    facts = said.json
    chances = convolutional().probabilities(as_input(noise_folder))
    names = np.array(["ant", "bee", "cat", "dog"])
    assert [row["id"] for row in facts["rows"]] == [f"{n}.png" for n in range(5)]
    assert [row["top1"] for row in facts["rows"]] == chances.argmax(axis=1).tolist()
    assert [row["label"] for row in facts["rows"]] == names[chances.argmax(axis=1)].tolist()
    np.testing.assert_allclose([row["probability"] for row in facts["rows"]], chances.max(axis=1), rtol=1e-4)
    assert (facts["count"], facts["done"], facts["skipped"], facts["set_aside"]) == (5, 5, 0, [])
    assert facts["method"] == {"name": "predict"}
    assert facts["target"] is None
    assert facts["finished"] is True
    np.testing.assert_allclose(open_job(out).values(), chances, rtol=1e-4, atol=1e-6)
    assert open_job(out).verify() == []


@pytest.mark.parametrize("method", ["occlusion", "saliency"])
def test_resume_of_a_cut_job_is_byte_identical(
    shell: Shell, net: Path, noise_folder: Path, tmp_path: Path, method: str
) -> None:
    flags = [*PLAIN, "--shard", "2", "--target", "probability(1)", "--threads", "2"]
    flags += ["--window", "3", "--stride", "2"] if method == "occlusion" else []
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for out in (whole, cut):
        assert shell("run", method, net, noise_folder, "-o", out, *flags).code == 0
    manifest = (cut / "manifest.jsonl").read_bytes()
    lines = manifest.splitlines(keepends=True)
    (cut / "manifest.jsonl").write_bytes(b"".join(lines[:-2]) + lines[-2][:40])  # killed while committing
    said = shell("run", method, net, noise_folder, "-o", cut, *flags, "--resume", "--json")
    assert said.code == 0
    assert (said.json["skipped"], said.json["done"]) == (2, 3)
    assert contents(cut) == contents(whole)
    assert open_job(cut).verify() == []
    said = shell("run", method, net, noise_folder, "-o", cut, *flags, "--resume", "--json")
    assert (said.json["skipped"], said.json["done"], said.code) == (5, 0, 0)
    assert contents(cut) == contents(whole)


def test_a_table_too_long_to_print_is_not_read(
    shell: Shell, net: Path, noise_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.commands._run_job.ROWS_SHOWN", 4)
    monkeypatch.setattr("sightline.job.reader.Job.table", lambda job: pytest.fail("all rows were read"))
    facts = shell("run", "predict", net, noise_folder, "-o", tmp_path / "out", *PLAIN, "--json").json
    assert (facts["count"], facts["rows"]) == (5, None)


def test_maps_are_those_of_the_library(shell: Shell, net: Path, noise_folder: Path, tmp_path: Path) -> None:
    flags = ["--target", "logit(0) - logit(2)", "--reduce", "sum"]
    assert shell("run", "saliency", net, noise_folder, "-o", tmp_path / "out", *PLAIN, *flags).code == 0
    problem, images = convolutional(), as_input(noise_folder)
    weights = problem.logit_weights([0] * 5) - problem.logit_weights([2] * 5)
    expected = problem.backward(images, weights).sum(axis=1)
    np.testing.assert_allclose(open_job(tmp_path / "out").values(), expected, rtol=1e-4, atol=1e-5)


def test_a_method_that_looks_at_the_network_alone(shell: Shell, net: Path, tmp_path: Path) -> None:
    said = shell("run", "filters", net, "-o", tmp_path / "out", "--json", "--overlays", "--report")
    assert said.code == 0
    assert said.json["count"] == 4
    kernel = convolutional().first_kernel
    assert kernel is not None
    np.testing.assert_allclose(open_job(tmp_path / "out").values(), kernel.transpose(0, 2, 3, 1), rtol=1e-6)
    assert (tmp_path / "out" / "report.html").is_file()
    assert list((tmp_path / "out" / "overlays").rglob("*.png"))
    said = shell("run", "filters", net, "-o", tmp_path / "out", "--resume")
    assert said.code == 0


def test_overlays_and_report(shell: Shell, net: Path, noise_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["run", "occlusion", net, noise_folder, "-o", out, *PLAIN, "--window", "3", "--stride", "3"]
    said = shell(*words, "--overlays", "--report", "--limit", "3")
    assert said.code == 0
    assert f"Report: {out / 'report.html'}" in said.out
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(f"{row}.png" in page for row in range(3))
    assert "3.png" not in page
    assert "Occlusion(window=3, width=None, stride=3" in page
    assert len(list((out / "overlays").rglob("*.png"))) >= 3
    said = shell(*words, "--report", "--limit", "3", "--resume", "--json")  # explained again for the page alone
    assert said.code == 0
    assert said.json["report"] == str(out / "report.html")


def test_the_page_names_what_was_set_aside_and_predict_leaves_no_folder_of_overlays(
    shell: Shell, net: Path, noise_folder: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for path in noise_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "3.png").write_bytes(b"")
    said = shell("run", "predict", net, folder, "-o", out, *PLAIN, "--report", "--overlays")
    assert said.code == 4
    page = (out / "report.html").read_text(encoding="utf-8")
    assert '4 images, <a href="#set-aside">1 more set aside</a>, 1 result' in page
    (aside,) = open_job(out).set_aside
    assert re.search(rf'<li>3\.png <span class="path">{re.escape(html.escape(aside.reason))}</span>', page)
    assert not (out / "overlays").exists()
    assert "No overlays were drawn: what predict returns is no picture." in said.err


def test_method_names_may_be_spelt_as_flags_are(shell: Shell, net: Path, noise_folder: Path, tmp_path: Path) -> None:
    said = shell("run", "guided-backprop", net, noise_folder, "-o", tmp_path / "out", *PLAIN, "--json")
    assert said.code == 0
    assert said.json["method"] == {"name": "guided_backprop", "reduce": "max_abs", "at": None}


def test_limit_and_half_precision(shell: Shell, net: Path, noise_folder: Path, tmp_path: Path) -> None:
    flags = [*PLAIN, "--limit", "2", "--dtype", "float16"]
    said = shell("run", "saliency", net, noise_folder, "-o", tmp_path / "out", *flags, "--json")
    assert said.json["count"] == 2
    values = open_job(tmp_path / "out").values()
    assert values.dtype == np.float16
    assert values.shape == (2, 7, 6)


def test_a_fixed_batch_gives_the_same_rows(shell: Shell, net: Path, noise_folder: Path, tmp_path: Path) -> None:
    one = convolutional("one", batch=1).save(tmp_path)
    rows = []
    for model in (net, one):
        said = shell("run", "predict", model, noise_folder, "-o", tmp_path / model.stem, *PLAIN, "--json")
        assert said.code == 0
        rows.append([row["probabilities"] for row in said.json["rows"]])
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-5)


def test_other_pictures_of_the_same_names_are_another_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, side in (("first", 20), ("second", 30)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (side, side), (side, 0, 0)).save(tmp_path / folder / "x.png")
    model, out = str(linear(shape=(3, 5, 7)).save(tmp_path)), str(tmp_path / "out")
    flags = ["--preset", "zero-to-one", "-o", out]
    assert cli.call(["run", "predict", model, str(tmp_path / "first"), *flags]) == 0
    assert cli.call(["run", "predict", model, str(tmp_path / "second"), *flags, "--resume"]) == 3
    assert "input files" in capsys.readouterr().err


def test_listed_windows_and_a_picture_that_fills_them(
    shell: Shell, net: Path, noise_folder: Path, tmp_path: Path
) -> None:
    windows = [(0, 0, 7, 3), (2, 3, 4, 3)]
    filler = tmp_path / "filler.png"
    Image.fromarray(np.random.default_rng(9).integers(0, 256, (7, 6, 3), dtype=np.uint8)).save(filler)
    out = tmp_path / "out"
    flags = [flag for window in windows for flag in ("--windows", *map(str, window))]
    target = ("--target", "logit(1)")
    said = shell("run", "occlusion", net, noise_folder, "-o", out, *PLAIN, *flags, "--fill", filler, *target)
    assert said.code == 0
    (tmp_path / "fill").mkdir()
    filler.rename(tmp_path / "fill" / "filler.png")
    images, (fill,) = as_input(noise_folder), as_input(tmp_path / "fill")
    expected = np.zeros((len(images), 7, 6))
    for top, left, height, width in windows:  # they do not overlap, so no pixel has more than one
        place = np.s_[..., top : top + height, left : left + width]
        hidden = images.copy()
        hidden[place] = fill[place]
        falls = convolutional().logits(images)[:, 1] - convolutional().logits(hidden)[:, 1]
        expected[place] = falls[:, None, None]
    np.testing.assert_allclose(open_job(out).values(), expected, rtol=1e-3, atol=1e-4)
