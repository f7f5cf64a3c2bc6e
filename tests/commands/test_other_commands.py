"""Help, methods, plan, inspect, doctor and export: that they run, and that what they print is so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

import bad_models as bad
from commands.calling import Shell
from problems import PROBLEMS
from sightline import __version__, registry
from sightline.registry import Entry

COMMANDS = {path.stem for path in (Path(registry.__file__).parent / "commands").glob("[!_]*.py")}


def test_help_lists_every_command(shell: Shell) -> None:
    said = shell("--help")
    assert said.code == 0
    assert all(f" {command} " in said.out for command in COMMANDS)
    assert {"demo", "doctor", "methods", "export", "inspect", "plan", "run"} <= COMMANDS
    assert shell("--version").out.strip() == __version__


def test_the_installed_command_and_the_module_are_one() -> None:
    script = Path(sys.executable).with_name("sightline")
    texts = [
        subprocess.run([*start, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
        for start in ([script], [sys.executable, "-m", "sightline"])
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(shell: Shell, command: str) -> None:
    said = shell(command, "--help")
    assert said.code == 0
    assert said.out.startswith(f"Usage: sightline {command}")


@pytest.mark.parametrize("entry", registry.entries().values(), ids=lambda entry: entry.name)
def test_every_field_is_a_flag_with_its_note(shell: Shell, entry: Entry) -> None:
    kind = entry.load()
    for command in ("run", "plan"):
        said = shell(command, entry.name, "--help")
        assert said.code == 0
        words = " ".join(said.out.replace("│", " ").split())
        for name, note in registry.field_notes(kind).items():
            assert f"--{name.replace('_', '-')} " in words
            assert note[:30] in words


def test_methods(shell: Shell) -> None:
    said = shell("methods")
    assert [line.split()[0] for line in said.out.splitlines()] == list(registry.entries())
    listed = shell("methods", "--json").json
    assert [one["name"] for one in listed] == list(registry.entries())
    assert {one["needs"] for one in listed} >= {"Forward", "Taps", "WindowSweep", "Differentiable", "Weights"}


def test_plan(shell: Shell, net: Path) -> None:
    """4 rows and 3 columns of windows over 7x6 pixels, and the untouched image; 2,296 MACs by hand."""
    said = shell("plan", "occlusion", net, "--window", "3", "--stride", "2", "--threads", "2", "--json")
    assert said.code == 0
    facts = said.json
    assert facts["method"].startswith("Occlusion(window=3, width=None, stride=2, fill=0.0, seed=0, ")
    assert (facts["route"], facts["provider"]) == ("ort", "CPUExecutionProvider")
    assert facts["passes"] == 3 * 3 + 1
    assert facts["macs"] == 10 * 2296
    assert facts["settings"] == {
        "device": "cpu", "threads": 2, "batch": None, "memory": 2 << 30, "sweep": "auto", "size": None,
        "gpu": 0, "precision": "fp32", "cuda_graphs": False,
    }  # fmt: skip
    facts = shell("plan", "saliency", net, "--json").json
    assert facts["route"] == "autograd"
    assert [refusal["route"] for refusal in facts["refusals"]] == ["ort", "tensorrt"]
    text = shell("plan", "saliency", net).out
    assert "refused  ort: It does not offer Differentiable (it offers WindowSweep, Taps, Weights)." in text


def test_inspect(shell: Shell, net: Path) -> None:
    facts = shell("inspect", net, "--json").json
    assert facts["input"] == {
        "name": "image", "layout": "NCHW", "channels": 3, "size": [7, 6], "size_is_fixed": True, "batch": None,
        "dtype": "float32",
    }  # fmt: skip
    assert facts["output"] == {"name": "logits", "logits": "logits", "activation": "softmax"}
    assert (facts["parameters"], facts["macs"]) == (361, 2296)
    layers = {layer["name"]: layer for layer in facts["layers"]}
    assert layers["conv2"]["receptive_field"] == [5, 3]  # 3 + 2 rows at stride 2, 2 + 1 columns at stride 1
    assert layers["conv2"]["jump"] == [2, 1]
    assert layers["logits"]["receptive_field"] is None
    assert facts["routes"]["ort"] == facts["routes"]["autograd"] == []
    assert facts["preprocess"] is None
    text = shell("inspect", net, "--preset", "zero-to-one").out
    assert "route ort: works" in text
    assert "361 parameters" in text


def test_inspect_tells_why_gradients_do_not_work(shell: Shell, tmp_path: Path) -> None:
    proto = onnx.ModelProto.FromString(PROBLEMS["linear"].proto.SerializeToString())
    proto.graph.node[1].CopyFrom(
        onnx.helper.make_node(
            "FusedGemm", ["flat", "w", "b"], ["logits"], domain="com.microsoft", transB=1, activation="Relu"
        )
    )
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    path = bad.saved(proto, tmp_path / "fused.onnx")
    facts = shell("inspect", path, "--json").json
    assert facts["routes"]["ort"] == []
    (reason,) = facts["routes"]["autograd"]
    assert "FusedGemm" in reason


def test_doctor_counts_nodes_by_provider(shell: Shell, net: Path) -> None:
    nodes = shell("doctor", net, "--json", "--mean", "0,0,0", "--std", "1,1,1").json["nodes"]
    assert set(nodes) >= {"cpu"}
    assert sum(nodes["cpu"]["CPUExecutionProvider"].values()) >= 2
    assert "nodes on CPUExecutionProvider (" in shell("doctor", net).out


def test_doctor(shell: Shell) -> None:
    said = shell("doctor")
    assert said.code == 0
    assert f"sightline {__version__}" in said.out
    facts = shell("doctor", "--json").json
    assert facts["devices"]["cpu"] == []
    assert facts["packages"]["onnx"] == onnx.__version__
    for device, reasons in facts["devices"].items():
        assert all(reason.endswith(".") for reason in reasons), device


def test_export(shell: Shell, tmp_path: Path) -> None:
    """Random weights of the smallest torchvision network, then inspected as any other file."""
    pytest.importorskip("torchvision", reason="exporting needs torchvision")
    path = tmp_path / "net.onnx"
    said = shell("export", "torchvision:squeezenet1_1@none", "-o", path, "--size", "64", "--json")
    assert said.code == 0, said
    json.loads(said.out)
    facts = shell("inspect", path, "--json").json
    assert 1_235_496 - 3_944 <= facts["parameters"] <= 1_235_496  # an exporter may drop the 3,944 biases, all zero
    assert facts["input"]["size"] == [64, 64]
    assert facts["input"]["batch"] is None
    assert {"features.3", "features.3.squeeze"} <= {layer["module"] for layer in facts["layers"]}
