"""Models: what is refused and in which words, and what a sound one knows of itself."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
from PIL import Image

import bad_models as bad
from problems import PROBLEMS, convolutional, linear, make_model, node
from sightline.errors import BadModel, MissingPreprocess, NoRoute, SightlineError, UnknownName, UsageError
from sightline.methods.forward.predict import Predict, Predictions
from sightline.methods.gradient.saliency import Saliency
from sightline.model import Model, load
from sightline.preprocess import Preprocess
from sightline.target import Target, logit, probability, unit
from sightline.types import Batch

Open = Callable[..., Model]


def refused(source: Path | str, sentence: str, kind: type[SightlineError] = BadModel, **options: object) -> None:
    with pytest.raises(kind, match=sentence):
        load(source, **options)  # type: ignore[arg-type]


def test_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.onnx"
    path.write_text("These are notes, not a network.\n" * 20)
    refused(path, r"notes\.onnx is not an ONNX file, or it is cut short")


@pytest.mark.parametrize("name", ["picture.onnx", "picture.png", "picture.json", "picture.txt"])
def test_a_picture_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.new("RGB", (8, 8)).save(path, format="PNG")
    refused(path, r"picture\.\w+ is not an ONNX file")


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.onnx"
    path.touch()
    refused(path, r"empty\.onnx is not an ONNX file: it holds no graph")


@pytest.mark.parametrize("keep", [0.02, 0.1, 0.3, 0.5, 0.9, 0.99])
def test_a_truncated_file(tmp_path: Path, keep: float) -> None:
    refused(bad.truncated(tmp_path / "cut.onnx", keep), r"cut\.onnx is not (an ONNX file|a valid ONNX model)")


def test_a_folder(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder. Pass one .onnx file")


def test_a_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere.onnx", r"nowhere\.onnx does not exist. Pass an \.onnx file, 'demo', 'torch")


def test_external_data_beside_the_model_is_read_and_hashed(tmp_path: Path) -> None:
    model, problem = load(bad.with_external_data(tmp_path)), linear()
    images = problem.images(seed=3)
    found = model.explain(Batch.of(images), Predict(), threads=2)
    np.testing.assert_allclose(found.logits, problem.logits(images), rtol=1e-4, atol=1e-5)  # type: ignore[attr-defined]
    content = (tmp_path / "external.onnx").read_bytes() + (tmp_path / "weights.bin").read_bytes()
    assert model.sha256 == hashlib.sha256(content).hexdigest()


def test_external_data_missing(tmp_path: Path) -> None:
    path = bad.with_external_data(tmp_path, keep=False)
    refused(path, r"Weight 'w' of .* is stored in 'weights\.bin', which is missing. Put weights\.bin beside")


@pytest.mark.parametrize("outside", ["../weights.bin", "/etc/hostname", "sub/../../weights.bin", "", "a\0b"])
def test_external_data_outside_its_folder(tmp_path: Path, outside: str) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\0" * 4096)
    folder = tmp_path / "model"
    folder.mkdir()
    path = bad.with_external_data(folder, outside)
    refused(path, r"outside the model's folder\. External data is read only from|which is missing")


def test_external_data_by_a_link_that_leads_outside(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = bad.with_external_data(folder)
    (folder / "weights.bin").rename(tmp_path / "weights.bin")
    (folder / "weights.bin").symlink_to(tmp_path / "weights.bin")
    refused(path, r"points to 'weights\.bin', outside the model's folder")


def test_external_data_cut_short(tmp_path: Path) -> None:
    path = bad.with_external_data(tmp_path)
    os.truncate(tmp_path / "weights.bin", 100)
    refused(path, r"weights\.bin has 100 bytes, but weight 'w' of .* the file is cut short. Copy it again")


def test_external_data_read_again_and_again(tmp_path: Path) -> None:
    path = bad.with_external_data(tmp_path)
    proto = onnx.load(path, load_external_data=False)
    for number in range(40):
        alias = proto.graph.initializer.add()
        alias.CopyFrom(proto.graph.initializer[0])
        alias.name = f"alias{number}"
    refused(bad.saved(proto, path), r"read again and again from [\d,]+ bytes of external data")


def test_external_data_at_no_number(tmp_path: Path) -> None:
    path = bad.with_external_data(tmp_path)
    proto = onnx.load(path, load_external_data=False)
    next(e for e in proto.graph.initializer[0].external_data if e.key == "length").value = "-8"
    refused(bad.saved(proto, path), r"these are no byte counts")


def test_external_data_in_a_branch_is_held_to_the_same(tmp_path: Path) -> None:
    """A weight inside the branch of an If is a weight."""
    leaf = onnx.TensorProto(name="leaf", data_type=onnx.TensorProto.FLOAT, dims=[1])
    leaf.data_location = onnx.TensorProto.EXTERNAL
    leaf.external_data.add(key="location", value="../secret")
    out = [onnx.helper.make_tensor_value_info("v", onnx.TensorProto.FLOAT, [1])]
    branch = onnx.helper.make_graph([node("Constant", "", "v", value=leaf)], "branch", [], out)
    proto = onnx.ModelProto.FromString(linear().proto.SerializeToString())
    proto.graph.node.append(node("If", "yes", "extra", then_branch=branch, else_branch=branch))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    refused(bad.saved(proto, tmp_path / "branch.onnx"), r"Weight 'leaf' .* outside the model's folder")


def test_an_operator_of_a_foreign_domain(tmp_path: Path) -> None:
    path = bad.with_operator(tmp_path / "custom.onnx", "Sharpen", "my.company")
    refused(path, r"Node 'odd_one' .* operator 'Sharpen' of domain 'my\.company'.* export the model with standard")


def test_an_unknown_operator_of_the_standard_domain(tmp_path: Path) -> None:
    refused(bad.with_operator(tmp_path / "odd.onnx", "Sharpen"), r"odd\.onnx is not a valid ONNX model: .*Sharpen")


def test_an_opset_that_is_too_old(tmp_path: Path) -> None:
    path = bad.with_opset(tmp_path / "old.onnx", 6)
    refused(path, r"is written in opset 6; the oldest accepted is 7\. Convert it with onnx\.version_converter")


@pytest.mark.parametrize("channels", [2, 4, 12])
def test_a_channel_count_that_no_image_has(tmp_path: Path, channels: int) -> None:
    path = bad.with_channels(tmp_path / "odd.onnx", channels)
    refused(path, rf"takes {channels} channels; images have 3 \(RGB or BGR\) or 1 \(luminance\)")


@pytest.mark.parametrize("in_constant", [False, True])
def test_nan_weights(tmp_path: Path, in_constant: bool) -> None:
    path = bad.with_nan(tmp_path / "nan.onnx", in_constant=in_constant)
    refused(path, r"holds 2 NaN of 420 values: every score would be NaN\. Export the model again")


def test_several_inputs(tmp_path: Path) -> None:
    path = bad.with_two_inputs(tmp_path / "two.onnx")
    refused(path, r"has 2 inputs \(image, mask\); a network with one image input is needed")


def test_no_output(tmp_path: Path) -> None:
    refused(bad.without_outputs(tmp_path / "mute.onnx"), r"mute\.onnx (has no output|is not a valid ONNX model)")


@pytest.mark.parametrize("rank", [2, 3, 5])
def test_an_input_that_is_no_image(tmp_path: Path, rank: int) -> None:
    refused(bad.of_rank(tmp_path / "rank.onnx", rank), r"images \(B, C, H, W\) are needed")


@pytest.mark.parametrize("value", ["{", '{"a": 1}', "[1, 2]", "null"])
def test_labels_in_the_metadata_that_are_none(tmp_path: Path, value: str) -> None:
    path = bad.with_metadata(tmp_path / "m.onnx", "sightline.labels", value)
    refused(path, r"metadata 'sightline\.labels' of .* are no JSON list of names")


@pytest.mark.parametrize("value", ["{", "[]", '{"resize": 3}', '{"resize": 0, "crop": null}', '{"size": 3}'])
def test_preprocessing_in_the_metadata_that_is_none(tmp_path: Path, value: str) -> None:
    path = bad.with_metadata(tmp_path / "m.onnx", "sightline.preprocess", value)
    refused(path, r"metadata 'sightline\.preprocess' cannot be read", UsageError)


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    rgb, grey = linear().save(tmp_path), PROBLEMS["grey"].save(tmp_path)
    refused(rgb, r"size \(64, 64\) does not fit: the graph takes images of \(5, 7\) pixels only", UsageError, size=64)
    refused(grey, r"takes 1 channel, the preprocessing gives 3 .*--channel-order L", UsageError, preset="imagenet")
    refused(rgb, r"3 labels do not fit linear\.onnx, which has 4 classes", UsageError, labels=["a", "b", "c"])
    refused(rgb, r"No output is named 'scores'. There are: logits", UsageError, output="scores")
    refused(rgb, r"No preset is named 'imagnet'. Did you mean 'imagenet'", UnknownName, preset="imagnet")
    refused(rgb, r"weights go with torchvision:NAME", UsageError, weights=rgb)
    refused(rgb, r"Labels cannot be read from .*nowhere\.txt", UsageError, labels=tmp_path / "nowhere.txt")
    refused(
        rgb, "Give preset or preprocess, not both", UsageError,
        preset="raw", preprocess=Preprocess(resize=None, crop=None),
    )  # fmt: skip


def test_a_fixed_batch_of_one_gives_what_any_batch_gives(open_problem: Open) -> None:
    fixed, free = open_problem(convolutional("fixed", batch=1)), open_problem(convolutional("free"))
    images = Batch.of(convolutional().images(seed=4, count=5))
    for method in (Predict(), Saliency()):
        ours, theirs = (model.explain(images, method, threads=2) for model in (fixed, free))
        np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-5, atol=1e-6)
    with pytest.raises(UsageError, match=r"batch=16 does not fit fixed\.onnx, which takes 1 images per run only"):
        fixed.plan(Predict(), batch=16)


def test_images_that_do_not_fit(open_problem: Open) -> None:
    model = open_problem(linear())
    for shape in ((1, 5, 7), (3, 7, 5), (4, 5, 7)):
        with pytest.raises(UsageError, match=r"do not fit linear\.onnx, which takes \(3, 5, 7\)"):
            model.explain(Batch.of(np.zeros((2, *shape))), Predict())


def test_targets_that_the_model_does_not_have(open_problem: Open) -> None:
    model, images = open_problem(convolutional()), Batch.of(convolutional().images(1))
    for target, kind, sentence in (
        (logit(4), UsageError, "Class 4 does not exist: the model has classes 0 to 3"),
        (probability(-1), UsageError, "Class -1 does not exist"),
        (unit("relu3", 0), UnknownName, "No layer is named 'relu3'. Did you mean"),
        (unit("relu1", 4), UsageError, "has channels 0 to 3, not 4"),
        (logit((0, 1)), UsageError, "names 2 classes for 3 images"),
    ):
        with pytest.raises(kind, match=sentence):
            model.explain(images, Saliency(), target, threads=2)


@pytest.mark.parametrize("options", [{"threads": 0}, {"batch": 0}, {"memory": 0}, {"threads": -2}])
def test_settings_below_one(open_problem: Open, options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=r"(threads|batch|memory)=-?\d+ must be at least 1"):
        open_problem(linear()).plan(Predict(), **options)  # type: ignore[arg-type]


def test_preprocessing_is_never_guessed(open_problem: Open) -> None:
    model = open_problem(linear())
    assert not model.has_preprocess
    with pytest.raises(MissingPreprocess, match=r"--preset \{imagenet,.*\}, or --mean, --std and --size"):
        _ = model.preprocess


def test_a_free_size_must_be_chosen(tmp_path: Path) -> None:
    path = PROBLEMS["pooled_head"].save(tmp_path)
    with pytest.raises(UsageError, match="takes images of any size: choose one with --size"):
        _ = load(path).input_size
    assert load(path, size=33).input_size == (33, 33)
    assert load(path, preset="imagenet").input_size == (224, 224)
    assert load(path, preset="imagenet", size=(64, 96)).preprocess.output_size == (64, 96)


def test_an_output_that_is_no_vector_of_scores(open_problem: Open) -> None:
    model = open_problem(PROBLEMS["two_outputs"], output="relu2")
    with pytest.raises(UsageError, match=r"which is no vector of class scores. Choose another with --output"):
        model.explain(Batch.of(PROBLEMS["two_outputs"].images(1)), Predict(), threads=2)


def test_a_score_head_behind_operators_without_shapes(tmp_path: Path) -> None:
    """Shape inference stops at com.microsoft operators: K is then what the file says of its output."""
    rng = np.random.default_rng(2)
    matrix = rng.normal(size=(4, 105))
    fused = onnx.helper.make_node("FusedGemm", ["flat", "w"], ["logits"], domain="com.microsoft", transB=1)
    fused.attribute.append(onnx.helper.make_attribute("activation", "Relu"))
    proto = make_model(
        [node("Flatten", "image", "flat"), node("Gemm", "flat w", "logits", transB=1)],
        {"w": matrix}, shape=["N", 3, 5, 7], outputs={"logits": ["N", 4]},
    )  # fmt: skip
    proto.graph.node[1].CopyFrom(fused)
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    model = load(bad.saved(proto, tmp_path / "fused.onnx"))
    images = rng.normal(size=(2, 3, 5, 7)).astype(np.float32)
    found = model.explain(Batch.of(images), Predict(), threads=2)
    expected = np.maximum(images.reshape(2, -1) @ matrix.T, 0)
    np.testing.assert_allclose(found.logits, expected, rtol=1e-4, atol=1e-5)  # type: ignore[attr-defined]
    with pytest.raises(SightlineError, match="FusedGemm"):
        model.explain(Batch.of(images), Saliency(), threads=2)


@pytest.mark.parametrize(
    ("name", "logits", "activation"),
    [("linear", "logits", "softmax"), ("softmax", "logits", "softmax"), ("sigmoid", "logits", "sigmoid")],
)
def test_the_head_before_the_last_activation(open_problem: Open, name: str, logits: str, activation: str) -> None:
    model = open_problem(PROBLEMS[name])
    assert (model.logits_name, model.activation) == (logits, activation)
    assert model.class_count == 4


@pytest.mark.parametrize(
    ("content", "suffix", "expected"),
    [
        ('["a", "b"]', ".json", ("a", "b")),
        ('{"2": "c", "0": "a", "1": "b"}', ".json", ("a", "b", "c")),
        ('{"0": ["n01", "tench"], "1": ["n02", "goldfish"]}', ".json", ("tench", "goldfish")),
        ("a\n\n  b \n", ".txt", ("a", "", "b")),  # an empty line is a class without a name
    ],
)
def test_labels_from_files(tmp_path: Path, content: str, suffix: str, expected: tuple[str, ...]) -> None:
    path = tmp_path / f"labels{suffix}"
    path.write_text(content)
    model = linear(classes=len(expected)).save(tmp_path)
    assert load(model, labels=path).labels == expected


@pytest.mark.parametrize("content", ['{"10": "k", "0": "a"}', '"abc"', "7"], ids=["gaps", "text", "number"])
def test_label_files_that_name_no_classes_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(UsageError, match="Pass a JSON list"):
        load(linear().save(tmp_path), labels=path)


@pytest.mark.parametrize(("content", "suffix"), [("", ".txt"), ("\n \n", ".txt"), ("[]", ".json"), ("{}", ".json")])
def test_empty_label_files_are_refused(tmp_path: Path, content: str, suffix: str) -> None:
    path = tmp_path / f"labels{suffix}"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"labels\.(txt|json) names no class"):
        load(linear().save(tmp_path), labels=path)


def test_integer_inputs_take_plain_pixels_only(tmp_path: Path) -> None:
    proto = make_model(
        [node("Cast", "image", "floats", to=1), node("GlobalAveragePool", "floats", "logits")],
        {},
        shape=("N", 3, 4, 4),
        outputs={"logits": ("N", 3, 1, 1)},
    )
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    path = tmp_path / "integers.onnx"
    onnx.save(proto, path)
    with pytest.raises(UsageError, match="raw"):
        load(path, preset="imagenet")
    model = load(path, preset="raw")
    pixels = np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4)
    found = cast(Predictions, model.explain(Batch.of(pixels), Predict(), threads=2))
    np.testing.assert_allclose(found.logits[0], pixels.mean(axis=(0, 2, 3)))
    with pytest.raises(NoRoute, match="integers have no gradient"):
        model.plan(Saliency())


def test_one_score_alone_is_a_sigmoid(tmp_path: Path) -> None:
    model = linear(classes=1).save(tmp_path)
    assert load(model).activation == "sigmoid"


def test_a_label_of_two_classes_is_refused() -> None:
    with pytest.raises(UsageError, match="0 and 2"):
        Target.parse("crane", ("crane", "disc", "Crane"))


def test_a_model_can_be_closed_and_used_again(open_problem: Open) -> None:
    problem = convolutional()
    images = Batch.of(problem.images(1))
    with open_problem(problem) as model:
        before = model.explain(images, Saliency(), threads=2)
    np.testing.assert_array_equal(model.explain(images, Saliency(), threads=2).values, before.values)
