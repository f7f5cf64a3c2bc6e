"""Mistakes that people make on the command line: exit code, words, and never a traceback."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

import bad_models as bad
from commands.calling import Shell
from problems import PROBLEMS, linear

PLAIN = ("--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25")


def says(message: str, pattern: str) -> None:
    assert re.search(pattern, message, re.DOTALL), message


@pytest.mark.parametrize(
    ("make", "pattern"),
    [
        (lambda folder: bad.truncated(folder / "cut.onnx"), r"cut\.onnx is not an ONNX file, or it is cut short"),
        (lambda folder: folder, r"is a folder"),
        (lambda folder: folder / "gone.onnx", r"gone\.onnx does not exist"),
        (lambda folder: bad.with_external_data(folder, keep=False), r"stored in 'weights\.bin', which is missing"),
        (lambda folder: bad.with_external_data(folder, "../weights.bin"), r"outside the model's folder"),
        (lambda folder: bad.with_operator(folder / "odd.onnx", "Sharpen", "my.company"), r"domain 'my\.company'"),
        (lambda folder: bad.with_operator(folder / "odd.onnx", "Sharpen"), r"not a valid ONNX model: .*Sharpen"),
        (lambda folder: bad.with_opset(folder / "old.onnx", 6), r"opset 6; the oldest accepted is 7"),
        (lambda folder: bad.with_channels(folder / "four.onnx", 4), r"takes 4 channels; images have 3"),
        (lambda folder: bad.with_nan(folder / "nan.onnx"), r"holds 2 NaN"),
        (lambda folder: bad.with_two_inputs(folder / "two.onnx"), r"has 2 inputs \(image, mask\)"),
    ],
    ids=[
        "truncated", "folder", "missing", "external data missing", "external data outside", "foreign operator",
        "unknown operator", "opset 6", "four channels", "NaN", "two inputs",
    ],
)  # fmt: skip
def test_models_that_cannot_be_used(shell: Shell, tmp_path: Path, noise_folder: Path, make, pattern: str) -> None:
    model = make(tmp_path)
    for command in (["inspect"], ["plan", "occlusion"], ["run", "predict", noise_folder, "-o", tmp_path / "out"]):
        words = [*command[:2], model, *command[2:]] if command[0] == "run" else [*command, model]
        says(shell.refused(3, *words), pattern)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "pattern"),
    [
        ("pln", r'Unknown command "pln"\. Did you mean "plan"\?'),
        ("run", r"Name a method first: sightline run METHOD MODEL …, METHOD one of ablation_cam, activation_map,"),
        ("run oclusion NET PHOTOS -o OUT", r"No method is named 'oclusion'\. Did you mean 'occlusion'"),
        ("plan saliencey NET --json", r"No method is named 'saliencey'\. Did you mean 'saliency'"),
        ("run occlusion NET PHOTOS", r"parameter --out requires an argument"),
        ("run predict NET -o OUT", r"predict looks at images: name files, folders or patterns"),
        (
            "run predict NET gone/*.jpg -o OUT --mean 0,0,0 --std 1,1,1",
            r"No file or folder matches the pattern 'gone/\*\.jpg'",
        ),
        ("run filters NET -o OUT --layer frist", r"No layer is named 'frist'.*'first'"),
    ],
)
def test_calls_that_are_incomplete_or_misspelt(
    shell: Shell, net: Path, noise_folder: Path, tmp_path: Path, line: str, pattern: str
) -> None:
    places: dict[str, object] = {"NET": net, "PHOTOS": noise_folder, "OUT": tmp_path / "out"}
    says(shell.refused(2, *(places.get(word, word) for word in line.split())), pattern)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "pattern"),
    [
        ("occlusion --windwo 3", r"--windwo.*Did you mean --window\?"),
        ("occlusion --window wide", r"--window.*wide"),
        ("predict --target top", r"Unknown option.*--target"),
        ("saliency --reduce median", r"median.*max_abs"),
        ("occlusion --window 0", r"window=0 .* at least 1 pixel"),
        ("occlusion --window 2", r"stride=8 is larger than window=2"),
        ("predict --device gpu", r"gpu.*cpu.*cuda.*tensorrt"),
        ("predict --route autgrad", r"No route is named 'autgrad'.*autograd"),
        ("predict --preset imgnet", r"No preset is named 'imgnet'.*imagenet"),
        ("predict --threads 0", r'"0" for --threads. It must be at least 1'),
        ("predict --batch 0", r"batch=0 must be at least 1"),
        ("predict --limit 0", r"--limit 0 must be at least 1"),
        ("predict --workers 0", r"--workers 0 must be at least 1"),
        ("predict --workers 100000", r"--workers 100000 is more than \d+, which this machine of \d+ cores can use"),
        ("predict --shard 0", r"--shard .* must be at least 1"),
        ("predict --memory lots", r"--memory 'lots' is no amount\. Give 2GB"),
        ("predict --memory inf", r"--memory 'inf' is no amount"),
        ("predict --memory -1GB", r"--memory"),
        ("predict --mean a,b,c", r"--mean 'a,b,c' holds something else"),
        ("predict --mean 0,0", r"mean \(0\.0, 0\.0\) .* 3 numbers each"),
        ("predict --mean 0,0,nan", r"must be finite"),
        ("predict --std 1,0,1", r"std and scale not 0"),
        ("predict --size huge", r"--size 'huge' is no size\. Give 224"),
        ("predict --size 64", r"size \(64, 64\) does not fit.*\(7, 6\)"),
        ("predict --channel-order L", r"do not fit channels 'L': 1 number each"),
        ("predict --output scores", r"No output is named 'scores'.*logits"),
        ("predict --labels gone.txt", r"Labels cannot be read from gone\.txt"),
        ("saliency --target 9", r"Class 9 does not exist.*classes 0 to 3"),
        ("saliency --target tench", r"carries no labels.*--labels FILE"),
        ("saliency --target logit(1", r"'logit\(1' is not a formula"),
        ("saliency --target \"unit('relu9', channel=0)\"", r"No layer.*'relu1'"),
        ("saliency --target \"unit('relu1', channel=7)\"", r"channels 0 to 3, not 7"),
        ("activation_map --layer rellu1", r"No layer is named 'rellu1'.*'relu1'"),
        ("activation_map --layer fc", r"maps \(C, h, w\) are needed"),
    ],
)
def test_options_out_of_range(
    shell: Shell, net: Path, noise_folder: Path, tmp_path: Path, line: str, pattern: str
) -> None:
    """sightline run METHOD with an option that cannot be; no folder is left behind."""
    method, *flags = shlex.split(line)
    out = tmp_path / "out"
    call: list[object] = ["run", method, net, noise_folder, "-o", out, *flags]
    if "--preset" not in flags:
        for name, values in (PLAIN[:2], PLAIN[2:]):
            call += [] if name in flags else [name, values]
    says(shell.refused(2, *call), pattern)
    assert not out.exists()


def test_missing_preprocessing(shell: Shell, net: Path, noise_folder: Path, tmp_path: Path) -> None:
    message = shell.refused(2, "run", "predict", net, noise_folder, "-o", tmp_path / "out")
    says(
        message,
        r"net\.onnx does not record how images become its input\. Say it: --preset \{.*--mean, --std",
    )


def test_a_grey_model_and_a_preset_of_colours(shell: Shell, noise_folder: Path, tmp_path: Path) -> None:
    grey, out = PROBLEMS["grey"].save(tmp_path), tmp_path / "out"
    message = shell.refused(2, "run", "predict", grey, noise_folder, "-o", out, "--preset", "imagenet")
    says(message, r"takes 1 channel, the preprocessing gives 3 \(RGB\)\. Choose with --channel-order L")
    said = shell("run", "predict", grey, noise_folder, "-o", out, "--preset", "imagenet", "--channel-order", "L")
    assert said.code == 0, said  # what the message said to do


def test_labels_of_another_count(shell: Shell, net: Path, noise_folder: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\n")
    message = shell.refused(2, "run", "predict", net, noise_folder, "-o", tmp_path / "o", *PLAIN, "--labels", labels)
    says(message, r"3 labels do not fit net\.onnx, which has 4 classes")


def test_a_misspelt_label(shell: Shell, net: Path, noise_folder: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.json"
    labels.write_text('["tench", "goldfish", "great white shark", "hen"]')
    words = ["run", "saliency", net, noise_folder, "-o", tmp_path / "o", *PLAIN, "--labels", labels, "--target"]
    says(shell.refused(2, *words, "goldfsh"), r"No label is named 'goldfsh'\. Did you mean 'goldfish'")


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
@pytest.mark.parametrize("method", ["predict", "saliency"])
def test_a_missing_provider(
    shell: Shell, net: Path, noise_folder: Path, tmp_path: Path, device: str, method: str
) -> None:
    import onnxruntime
    import torch

    if torch.cuda.is_available() or "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has a CUDA device")
    out = tmp_path / "out"
    message = shell.refused(3, "run", method, net, noise_folder, "-o", out, *PLAIN, "--device", device)
    says(message, rf"{method} needs \w+, and no route offers it here")
    says(
        message,
        r"pip install 'sightline\[gpu\]'|install a build of torch for CUDA|have no gradients: choose --device",
    )
    if device == "tensorrt" and method == "predict":
        says(message, r"tensorrt-cu13-libs")
    assert not out.exists()


def test_an_empty_folder(shell: Shell, net: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("no picture")
    message = shell.refused(2, "run", "predict", net, empty, "-o", tmp_path / "out", *PLAIN)
    says(message, r"No image was found in '.*empty'\. Files with these suffixes are looked for: \.jpg")


def mixed(folder: Path, good: int) -> Path:
    """A folder of sound pictures, a text and a truncated picture."""
    folder.mkdir()
    for row in range(good):
        Image.effect_noise((12, 9), 60).convert("RGB").save(folder / f"good{row}.png")
    (folder / "text.jpg").write_text("not a picture at all")
    Image.effect_noise((64, 64), 60).save(folder / "cut.png")
    content = (folder / "cut.png").read_bytes()
    (folder / "cut.png").write_bytes(content[: len(content) // 2])
    return folder


def test_unreadable_images_among_good_ones(shell: Shell, net: Path, tmp_path: Path) -> None:
    photos = mixed(tmp_path / "mixed", good=3)
    said = shell("run", "predict", net, photos, "-o", tmp_path / "out", *PLAIN, "--json")
    assert said.code == 4
    assert [row["id"] for row in said.json["rows"]] == ["good0.png", "good1.png", "good2.png"]
    assert {one["id"] for one in said.json["set_aside"]} == {"text.jpg", "cut.png"}
    said = shell("run", "predict", net, photos, "-o", tmp_path / "again", *PLAIN)
    assert said.code == 4
    says(said.err, r"Set aside: cut\.png: .*damaged")
    says(said.err, r"Set aside: text\.jpg: .*is not an image that can be read")
    says(said.out, r"3 rows")


@pytest.mark.parametrize("flags", [[], ["--json"], ["--report"], ["--report", "--overlays", "--json"]])
def test_nothing_but_unreadable_images(shell: Shell, net: Path, tmp_path: Path, flags: list[str]) -> None:
    photos = mixed(tmp_path / "mixed", good=0)
    said = shell("run", "occlusion", net, photos, "-o", tmp_path / "out", *PLAIN, *flags)
    assert said.code == 4
    if "--json" in flags:
        assert said.json["rows"] == []
        assert len(said.json["set_aside"]) == 2
        assert said.json["report"] is None
    elif "--report" in flags:
        assert "Report:" not in said.out


def test_the_folder_of_another_job(shell: Shell, net: Path, noise_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["run", "occlusion", net, noise_folder, "-o", out, *PLAIN]
    assert shell(*words, "--window", "3", "--stride", "3").code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for flags in ([], ["--resume"]):
        message = shell.refused(3, *words, "--window", "2", "--stride", "2", *flags)
        says(message, r"holds another job:.*method: there Occlusion\(window=3, .* asked for Occlusion\(window=2")
    says(
        shell.refused(3, *words, "--window", "3", "--stride", "3"), r"holds this very job already, finished.*--resume"
    )
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_folder_that_holds_something_else(shell: Shell, net: Path, noise_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    message = shell.refused(3, "run", "predict", net, noise_folder, "-o", tmp_path, *PLAIN)
    says(message, r"is not empty and holds no job \(thesis\.tex\)\. Nothing in it was touched")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    message = shell.refused(3, "run", "filters", net, "-o", tmp_path / "thesis.tex")
    says(message, r"thesis\.tex is a file")


def test_gradients_of_a_network_without_relu(shell: Shell, noise_folder: Path, tmp_path: Path) -> None:
    words = ["run", "guided_backprop", linear().save(tmp_path), noise_folder, "-o", tmp_path / "out", *PLAIN]
    says(shell.refused(2, *words), r"has no ReLU\. Use saliency, which needs none")


def test_an_operator_that_the_twin_does_not_know(shell: Shell, noise_folder: Path, tmp_path: Path) -> None:
    """Forward-only methods still run it."""
    odd = bad.with_operator(tmp_path / "odd.onnx", "IsNaN")
    proto_out = tmp_path / "out"
    message = shell.refused(3, "run", "saliency", odd, noise_folder, "-o", proto_out, *PLAIN)
    says(message, r"odd\.onnx|IsNaN|cast")


def test_debug_shows_where_it_came_from(shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sightline.cli import call

    assert call(["inspect", str(tmp_path / "gone.onnx"), "--debug"]) == 3
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "gone.onnx does not exist" in err
