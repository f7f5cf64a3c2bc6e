"""Export of modules: what the file computes, what it says, and what is refused."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sightline_exporters import export
from sightline_exporters.errors import BadRequest, ConversionFailed, ParityFailed

FIELDS = {
    "resize": 40,
    "crop": [33, 29],
    "interpolation": "bicubic",
    "antialias": True,
    "channels": "RGB",
    "scale": 0.5,
    "mean": [0.1, 0.2, 0.3],
    "std": [1.0, 2.0, 4.0],
}


class Block(torch.nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = torch.nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.conv(x) + x)


class Tiny(torch.nn.Module):
    """Two blocks, a dropout that evaluation mode switches off, and a BatchNorm with statistics of its own."""

    def __init__(self, classes: int = 5):
        super().__init__()
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, stride=2), torch.nn.BatchNorm2d(6), torch.nn.ReLU())
        self.blocks = torch.nn.Sequential(Block(6), Block(6))
        self.dropout = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(6, classes)
        torch.nn.init.uniform_(self.stem[1].running_mean, -1, 1)
        torch.nn.init.uniform_(self.stem[1].running_var, 0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.blocks(self.stem(x)).mean((2, 3))))


class Noisy(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(x.mean((2, 3)), 0.5, training=True)


class FixedBatch(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, -1)[:, :4]


class Two(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"maps": x * 2, "scores": x.mean((2, 3))}


class Broken(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log(-x.abs().mean((2, 3)))


@pytest.fixture
def tiny() -> Tiny:
    torch.manual_seed(3)
    return Tiny()


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("seed", [11])
def test_the_file_computes_what_the_module_does(tiny: Tiny, tmp_path: Path, exporter: str, seed: int) -> None:
    result = export(tiny, tmp_path / "tiny.onnx", size=(33, 29), exporter=exporter)
    assert result.inputs == {"input": ("batch", 3, 33, 29)}
    assert list(result.outputs) == ["logits"]
    # 3*6*9+6 stem, 12 normalisation, 2*(6*6*9+6) blocks, 6*5+5 head
    assert result.parameters == 168 + 12 + 660 + 35
    assert result.bytes == result.path.stat().st_size
    assert result.parity.difference <= 1e-5
    assert result.parity.top1 == 1.0
    assert "2 M parameters" not in str(result)
    assert exporter in str(result)
    session = onnxruntime.InferenceSession(result.path, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(seed)
    tiny.eval()
    for batch in (1, 2, 7):  # 2 is the example's, the others are not
        images = torch.randn((batch, 3, 33, 29), generator=generator)
        (found,) = session.run(None, {"input": images.numpy()})
        np.testing.assert_allclose(found, tiny(images).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [18, 20])
def test_the_file_stands_alone(tiny: Tiny, tmp_path: Path, opset: int) -> None:
    example = torch.zeros(1, 3, 33, 29)
    export(tiny, tmp_path / "tiny.onnx", example=example, opset=opset)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]
    model = onnx.load(tmp_path / "tiny.onnx", load_external_data=False)
    assert model.ir_version == 10
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": opset}
    assert b"stack_trace" not in (tmp_path / "tiny.onnx").read_bytes()
    assert str(Path(__file__).parent).encode() not in (tmp_path / "tiny.onnx").read_bytes()


def test_dynamo_notes_the_module_of_every_layer(tiny: Tiny, tmp_path: Path) -> None:
    export(tiny, tmp_path / "tiny.onnx", size=33)
    found: set[tuple[str, str]] = set()
    for node in onnx.load(tmp_path / "tiny.onnx").graph.node:
        notes = {entry.key: entry.value for entry in node.metadata_props}
        scopes = ast.literal_eval(notes["pkg.torch.onnx.name_scopes"])
        found.add((node.op_type, scopes[-2]))
    # the stem's convolution and normalisation are one node, with the output of the normalisation
    expected = {("Conv", "stem.1"), ("Relu", "stem.2"), ("Gemm", "head")}
    expected |= {(kind, f"blocks.{i}.{name}") for i in (0, 1) for kind, name in (("Conv", "conv"), ("Relu", "relu"))}
    assert expected <= found


def test_torchscript_names_nodes_after_modules(tiny: Tiny, tmp_path: Path) -> None:
    export(tiny, tmp_path / "tiny.onnx", size=33, exporter="torchscript")
    names = {node.name for node in onnx.load(tmp_path / "tiny.onnx").graph.node}
    assert {"/stem/stem.0/Conv", "/blocks/blocks.1/conv/Conv", "/blocks/blocks.0/relu/Relu", "/head/Gemm"} <= names


def test_metadata(tiny: Tiny, tmp_path: Path) -> None:
    labels = ["rock", "naïve", "c", "d", "e"]
    result = export(tiny, tmp_path / "tiny.onnx", preprocess=FIELDS, labels=labels)
    entries = metadata(result.path)
    assert json.loads(entries["sightline.preprocess"]) == FIELDS
    assert json.loads(entries["sightline.labels"]) == labels
    assert entries["sightline.source"].endswith("Tiny")
    assert entries["sightline.exporter"] == f"torch {torch.__version__}, dynamo, opset 18"
    assert entries["sightline.parity"] == str(result.parity)
    assert result.inputs["input"] == ("batch", 3, 33, 29)  # the crop


def test_a_module_says_nothing_about_preprocessing(tiny: Tiny, tmp_path: Path) -> None:
    export(tiny, tmp_path / "tiny.onnx", size=33)
    assert set(metadata(tmp_path / "tiny.onnx")) == {"sightline.source", "sightline.exporter", "sightline.parity"}


def test_the_module_stays_as_it_was(tiny: Tiny, tmp_path: Path) -> None:
    tiny.train()
    tiny.blocks[1].eval()
    modes = {name: part.training for name, part in tiny.named_modules()}
    state = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    export(tiny, tmp_path / "tiny.onnx", size=33)
    assert torch.rand(1) == expected  # nor was the caller's generator used
    assert {name: part.training for name, part in tiny.named_modules()} == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in tiny.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in tiny.parameters())


def test_two_exports_are_the_same_bytes(tiny: Tiny, tmp_path: Path) -> None:
    files = [export(tiny, tmp_path / name, size=33).path.read_bytes() for name in ("a.onnx", "b.onnx")]
    assert files[0] == files[1]


def test_outputs_of_a_mapping_keep_their_keys(tmp_path: Path) -> None:
    result = export(Two(), tmp_path / "two.onnx", size=9)
    assert result.outputs == {"maps": ("batch", 3, 9, 9), "scores": ("batch", 3)}
    assert result.parity.top1 is None  # the first output is no (B, K)


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_randomness_is_refused(tmp_path: Path, exporter: str) -> None:
    (tmp_path / "noisy.onnx").write_bytes(b"of before")
    with pytest.raises((ParityFailed, ConversionFailed)) as caught:
        export(Noisy(), tmp_path / "noisy.onnx", size=9, exporter=exporter)
    assert caught.value.exit_code == 3
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("noisy.onnx", b"of before")]


def test_a_difference_over_tolerance_is_refused(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sightline_exporters import onnx_file

    convert = onnx_file.convert

    def convert_with_a_fault(*arguments: object, **options: object) -> object:
        model = convert(*arguments, **options)  # pyright: ignore[reportArgumentType]
        bias = model.graph.initializers["head.bias"]
        shifted = bias.const_value.numpy() + np.float32(0.01)
        bias.const_value = onnx_file.ir.tensor(shifted, name="head.bias")
        return model

    monkeypatch.setattr(onnx_file, "convert", convert_with_a_fault)
    with pytest.raises(ParityFailed, match=r"Nothing was written") as caught:
        export(tiny, tmp_path / "tiny.onnx", size=33)
    # every logit is off by 0.01, relative to logits below 10
    assert 0.001 < caught.value.parity.difference < 1
    assert list(tmp_path.iterdir()) == []
    assert export(tiny, tmp_path / "tiny.onnx", size=33, tolerance=1.0).parity.difference > 0.001


def test_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    for exporter in ("dynamo", "torchscript"):
        with pytest.raises(ConversionFailed):
            export(FixedBatch(), tmp_path / "fixed.onnx", size=9, exporter=exporter)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "does not say its input's size"),
        ({"size": 33, "example": torch.zeros(2, 3, 33, 33)}, "exclude each other"),
        ({"example": torch.zeros(3, 33, 33)}, r"\(B, C, H, W\)"),
        ({"example": torch.zeros(2, 3, 33, 33, dtype=torch.int64)}, "torch.int64"),
        ({"size": 33, "opset": 17}, "18 to 20"),
        ({"size": 33, "exporter": "onnx2torch"}, "dynamo, torchscript"),
        ({"size": 33, "tolerance": float("nan")}, "tolerance"),
        ({"size": 33, "labels": ["one", "two"]}, r"2 labels .* \(B, 5\)"),
        ({"size": 33, "weights": "file.pth"}, "fill the module"),
        ({"size": 33, "preprocess": {"resize": 3}}, "lacks .*'crop'"),
        ({"size": 33, "preprocess": {**FIELDS, "gamma": 2}}, "unknown .*'gamma'"),
        ({"size": 33, "preprocess": FIELDS}, r"\[33, 29\]"),
        ({"preprocess": {**FIELDS, "channels": "L", "mean": [0.0], "std": [1.0]}}, "L images"),
        ({"preprocess": {**FIELDS, "std": [1.0, 0.0, 1.0]}}, "must not be 0"),
        ({"preprocess": {**FIELDS, "mean": [0.0]}}, "mean"),
        ({"preprocess": {**FIELDS, "interpolation": "area"}}, "bilinear"),
    ],
)
def test_wrong_calls(tiny: Tiny, tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(BadRequest, match=message) as caught:
        export(tiny, tmp_path / "tiny.onnx", **options)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_file(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"model\.onnx"):
        export(tiny, tmp_path, size=33)


def test_a_module_that_does_not_run_says_why(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed, match=r"\(2, 4, 33, 33\).*expected input.* to have 3 channels"):
        export(tiny, tmp_path / "tiny.onnx", example=torch.zeros(2, 4, 33, 33))
    with pytest.raises(ConversionFailed, match="NaN"):
        export(Broken(), tmp_path / "broken.onnx", size=9)


def test_a_refusing_exporter_names_the_other(tmp_path: Path) -> None:
    class Branch(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3)) if float(x.sum()) > 1e9 else x.amax((2, 3))

    with pytest.raises(ConversionFailed, match="Try exporter='torchscript'"):
        export(Branch(), tmp_path / "branch.onnx", size=9)
    assert export(Branch(), tmp_path / "branch.onnx", size=9, exporter="torchscript").parity.difference == 0


def test_importing_the_package_imports_no_torch() -> None:
    program = "import sightline_exporters, sys; assert not {'torch', 'sightline', 'onnx'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_refused_export_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The TorchScript exporter would print the graph it began; standard output belongs to the caller."""
    with pytest.raises(ConversionFailed, match="adaptive_avg_pool2d"):
        export(torch.nn.AdaptiveAvgPool2d(7), tmp_path / "pool.onnx", size=9, exporter="torchscript")
    print("afterwards it is open again")
    assert capfd.readouterr().out == "afterwards it is open again\n"
