"""Named models: weights, preprocessing and labels of their publishers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
import torchvision

from sightline_exporters import export
from sightline_exporters.errors import BadRequest, BadWeights, MissingExtra, MissingWeights, UnknownSource
from sightline_exporters.sources import Request

pytestmark = pytest.mark.usefixtures("empty_cache")


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvision_with_a_local_file(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(7)
    original = torchvision.models.squeezenet1_1(weights=None).eval()
    file = tmp_path / f"mine{suffix}"
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(original.state_dict(), file)
    result = export("torchvision:squeezenet1_1", tmp_path / "net.onnx", weights=file, size=64, exporter="torchscript")
    images = torch.randn(3, 3, 64, 64)
    session = onnxruntime.InferenceSession(result.path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": images.numpy()})
    expected = original(images).detach().numpy()
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    assert result.source == f"torchvision:squeezenet1_1@mine{suffix}"
    entries = metadata(result.path)
    labels = json.loads(entries["sightline.labels"])
    assert (len(labels), labels[0], labels[281]) == (1000, "tench", "tabby")
    assert json.loads(entries["sightline.preprocess"]) == {
        "resize": 73,  # 256 / 224 of 64
        "crop": [64, 64],
        "interpolation": "bilinear",
        "antialias": True,
        "channels": "RGB",
        "scale": 1 / 255,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }


def test_random_weights_follow_the_seed_and_are_named(tmp_path: Path) -> None:
    options = {"size": 64, "exporter": "torchscript"}
    first = export("torchvision:squeezenet1_1@none", tmp_path / "a.onnx", **options)
    again = export("torchvision:squeezenet1_1", tmp_path / "b.onnx", random_weights=True, **options)
    other = export("torchvision:squeezenet1_1@NONE", tmp_path / "c.onnx", seed=1, **options)
    assert first.path.read_bytes() == again.path.read_bytes()
    assert first.path.read_bytes() != other.path.read_bytes()
    assert metadata(first.path)["sightline.source"] == "torchvision:squeezenet1_1@random"


@pytest.mark.parametrize(
    "name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "ssdlite320_mobilenet_v3_large"]
)
def test_no_weights_of_backbones_are_fetched(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from torchvision.models import WeightsEnum

    from sightline_exporters.sources import torchvision as source

    def fetched(weights: WeightsEnum, *_: object, **__: object) -> None:
        raise AssertionError(f"{weights} was fetched")

    monkeypatch.setattr(WeightsEnum, "get_state_dict", fetched)
    built = source.build(Request(name, "", None, True))
    assert built.description == f"torchvision:{name}@random"
    assert any(one.std() > 0 for one in built.module.parameters())


def test_a_head_for_training_alone_is_left_in_its_file(tmp_path: Path) -> None:
    from sightline_exporters.sources import torchvision as source

    trained = torchvision.models.get_model("lraspp_mobilenet_v3_large", weights=None, weights_backbone=None)
    state = trained.state_dict() | {"aux_classifier.0.weight": torch.zeros(3)}
    torch.save(state, tmp_path / "weights.pth")
    built = source.build(Request("lraspp_mobilenet_v3_large", "", tmp_path / "weights.pth", False))
    for name, value in built.module.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_weights_decide_the_preprocessing(tmp_path: Path) -> None:
    """The fields do to a photograph what the publisher's own transform does."""
    from sightline_exporters.sources import torchvision as source

    checked = 0
    for name in torchvision.models.list_models(module=torchvision.models):
        for weights in torchvision.models.get_model_weights(name):
            transform = weights.transforms()
            fields = source._preprocess(transform)
            assert fields is not None, weights
            assert (fields["resize"], fields["crop"]) == (transform.resize_size[0], transform.crop_size * 2)
            assert (fields["mean"], fields["std"]) == (transform.mean, transform.std)
            assert str(fields["interpolation"]) in str(transform.interpolation).lower()
            checked += 1
    assert checked > 80


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights) as caught:
        export("torchvision:resnet18", tmp_path / "net.onnx")
    message = str(caught.value)
    for part in ("resnet18-f37072fd.pth", str(tmp_path / "torch" / "hub" / "checkpoints"), "--weights FILE", "@none"):
        assert part in message
    with pytest.raises(MissingWeights, match=r"resnet50-11ad3fa6\.pth"):
        export("torchvision:resnet50@imagenet1k_v2", tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


def test_cached_weights_are_used(tmp_path: Path) -> None:
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    torch.save(state, folder / "squeezenet1_1-b8a52dc0.pth")
    result = export("torchvision:squeezenet1_1", tmp_path / "net.onnx", size=64, exporter="torchscript")
    assert result.source == "torchvision:squeezenet1_1@IMAGENET1K_V1"
    values = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(result.path).graph.initializer}
    assert np.array_equal(values["features.0.weight"], state["features.0.weight"].numpy())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(torchvision.models.squeezenet1_0(weights=None).state_dict(), tmp_path / "other.pth")
    with pytest.raises(BadWeights, match=r"(?s)does not fit SqueezeNet.*missing.*unexpected.*another shape"):
        export("torchvision:squeezenet1_1", tmp_path / "net.onnx", weights=tmp_path / "other.pth")
    assert not (tmp_path / "net.onnx").exists()


def test_densenets_published_names_fit(tmp_path: Path) -> None:
    from sightline_exporters.sources import torchvision as source

    module = torchvision.models.densenet121(weights=None)
    wanted = set(module.state_dict())
    published = {k.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2.") if "denselayer" in k else k: v
                 for k, v in module.state_dict().items()}  # fmt: skip
    assert set(published) != wanted
    assert set(source._known(module, published)) == wanted


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("torchvision:resnet81", "resnet18"),
        ("torchvision:ResNext50", "resnext50_32x4d"),
        ("torchvision:resnet18@IMAGENET1K_V3", "IMAGENET1K_V1"),
        ("torchvisoin:resnet18", "torchvision:NAME"),
        ("resnet18", "torchvision:NAME"),
        ("timm:", "timm:NAME"),
        ("timm:resnet10x", "resnet10t"),
        ("timm:resnet10t@c4_in1k", "c3_in1k"),
    ],
)
def test_unknown_names_suggest_the_nearest(tmp_path: Path, text: str, suggestion: str) -> None:
    pytest.importorskip("timm", reason="timm is an extra")
    with pytest.raises(UnknownSource, match=suggestion) as caught:
        export(text, tmp_path / "net.onnx")
    assert caught.value.exit_code == 2


def test_a_file_and_random_weights_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="exclude each other"):
        export("torchvision:resnet18", tmp_path / "net.onnx", weights="mine.pth", random_weights=True)


def test_timm(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is an extra")
    torch.manual_seed(9)
    original = timm.create_model("resnet10t").eval()
    safetensors.torch.save_file(original.state_dict(), tmp_path / "mine.safetensors")
    result = export(
        "timm:resnet10t", tmp_path / "net.onnx", weights=tmp_path / "mine.safetensors", exporter="torchscript"
    )
    assert result.inputs["input"] == ("batch", 3, 176, 176)
    images = torch.randn(3, 3, 176, 176)
    session = onnxruntime.InferenceSession(result.path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": images.numpy()})
    expected = original(images).detach().numpy()
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    fields = json.loads(metadata(result.path)["sightline.preprocess"])
    # crop_pct 0.875: floor(176 / 0.875)
    assert (fields["resize"], fields["crop"], fields["interpolation"]) == (201, [176, 176], "bicubic")
    labels = json.loads(metadata(result.path)["sightline.labels"])
    assert len(labels) == 1000
    assert labels[0].startswith("tench")


def test_timm_weights_are_named_where_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm", reason="timm is an extra")
    with pytest.raises(MissingWeights, match=r"timm--resnet10t\.c3_in1k--model\.safetensors"):
        export("timm:resnet10t", tmp_path / "net.onnx")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(BadWeights, match="1 unexpected: weight"):
        export("timm:resnet10t", tmp_path / "net.onnx", weights=tmp_path / "other.pth")


def test_without_timm_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtra, match=r"sightline\[timm\]"):
        export("timm:resnet10t", tmp_path / "net.onnx")
