"""``sightline bench`` as it is called: files, schema, and what it refuses. No figure is judged by its size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from PIL import Image

from commands.calling import Shell
from commands.conftest import PLAIN
from problems import convolutional
from sightline.bench.record import schema

FAST = ("--seconds", "0.02", "--threads", "1")


@pytest.fixture(scope="session")
def fixed_net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network for four images per run, no more and no fewer."""
    proto = onnx.ModelProto.FromString(convolutional("net").proto.SerializeToString())
    for value in (proto.graph.input[0], *proto.graph.output):
        value.type.tensor_type.shape.dim[0].ClearField("dim_param")
        value.type.tensor_type.shape.dim[0].dim_value = 4
    path = tmp_path_factory.mktemp("fixed") / "fixed.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def checked(record: dict[str, Any]) -> dict[str, Any]:
    """The record without what the command adds, once it fits the schema."""
    assert record.pop("command") == "bench"
    record.pop("out")
    jsonschema.validate(record, schema(), cls=jsonschema.Draft202012Validator)
    return record


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


def test_every_scenario_and_every_file(shell: Shell, net: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = shell("bench", net, *FAST, "--batch", "1,3", "--queries", "20", "-o", out, "--json")
    assert said.code == 0, said
    record = checked(said.json)
    assert [one["scenario"] for one in record["measurements"]] == [
        "single-stream", "multi-stream", "server", "offline", "offline"
    ]  # fmt: skip
    assert [one["configuration"]["batch"] for one in record["measurements"]] == [1, 8, 1, 1, 3]
    assert {one["purpose"] for one in record["choices"]} == {"throughput", "latency"}
    assert record["models"][0]["precision"] == "fp32"
    assert record["input_shape"] == [3, 7, 6]
    assert record["inputs"] == "noise"
    assert record["measurements"][0]["placed"].keys() == {"CPUExecutionProvider"}
    assert json.loads((out / "bench.json").read_text()) == record
    text = (out / "bench.md").read_text()
    assert text.count("| forward pass |") == 5
    assert "### Server" in text
    with Image.open(out / "bench.png") as picture:
        assert picture.size > (1000, 1000)
    assert "OUT" not in shell.refused(3, "bench", net, *FAST, "-o", out)


def test_methods_are_counted_in_their_own_unit(shell: Shell, net: Path) -> None:
    said = shell(
        "bench", net, *FAST, "--scenario", "single-stream", "--json", "--target", "2",
        "--method", "occlusion(window=3,stride=2)", "--method", "rise(masks=40,cells=2)", "--method", "predict",
    )  # fmt: skip
    rows = {one["subject"]: one for one in checked(said.json)["measurements"]}
    assert list(rows) == ["occlusion(window=3, stride=2)", "rise(masks=40, cells=2)", "forward pass"]
    units = [(one["unit"], one["work_rate"] / one["throughput"]) for one in rows.values()]
    assert [unit for unit, _ in units] == ["windows", "masks", "images"]
    assert [rate for _, rate in units] == pytest.approx([3 * 3, 40, 1]), "windows at 0, 2, 4 of 7, and of 6"


def test_a_sweep_is_every_combination_once(shell: Shell, net: Path) -> None:
    said = shell(
        "bench", net, "--seconds", "0.02", "--threads", "1,2,1", "--batch", "2,2,5", "--json",
        "--precision", "fp32,fp16,other=" + str(net), "--scenario", "offline",
    )  # fmt: skip
    record = checked(said.json)
    found = [
        (one["configuration"]["precision"], one["configuration"]["threads"], one["configuration"]["batch"])
        for one in record["measurements"]
    ]
    assert found == [
        (name, threads, batch) for name in ("fp32", "fp16", "other") for threads in (1, 2) for batch in (2, 5)
    ]
    best = max(record["measurements"], key=lambda one: one["throughput"])
    assert record["choices"][0]["among"] == 12
    assert record["choices"][0]["figure"] >= best["throughput"] / 1.03


def test_int8_is_made_and_says_what_it_was_calibrated_on(shell: Shell, net: Path, noise_folder: Path) -> None:
    words = ("bench", net, *FAST, "--scenario", "single-stream", "--precision", "int8", "--json")
    noisy = checked(shell(*words).json)
    assert noisy["models"][0]["precision"] == "int8"
    assert "int8 was calibrated on noise: good for timing, for nothing else." in noisy["notes"]
    real = checked(shell(*words, "--images", noise_folder, *PLAIN).json)
    assert real["inputs"] == "5 photographs"
    assert not any("noise" in note for note in real["notes"])


def test_two_models_interleaved(shell: Shell, net: Path, fixed_net: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = shell("bench", net, *FAST, "--compare", fixed_net, "--json", "-o", out)
    record = checked(said.json)
    assert record["measurements"] == []
    assert [one["scenario"] for one in record["comparisons"]] == ["single-stream", "multi-stream", "offline"]
    assert [one["second"]["batch"] for one in record["comparisons"]] == [4, 4, 4]
    assert record["comparisons"][2]["first"]["batch"] == 4, "both run what both can"
    assert {one["file"] for one in record["models"]} == {"net.onnx", "fixed.onnx"}
    for one in record["comparisons"]:
        assert one["ratio"]["low"] <= one["ratio"]["median"] <= one["ratio"]["high"]
    assert "### Compared, interleaved" in (out / "bench.md").read_text()


def test_a_server_at_rates(shell: Shell, net: Path) -> None:
    said = shell(
        "bench", net, *FAST, "--scenario", "server", "--rate", "400,800", "--queries", "40", "--workers", "2",
        "--serve-batch", "4", "--serve-wait", "1", "--json",
    )  # fmt: skip
    rows = checked(said.json)["measurements"]
    assert [one["server"]["offered"] for one in rows] == [400, 800]
    assert all(one["latency"]["queries"] == 40 and one["configuration"]["workers"] == 2 for one in rows)
    assert all(1 <= one["server"]["mean_batch"] <= 4 for one in rows)
    assert all(one["latency"]["most"] >= 1 for one in rows if one["server"]["mean_batch"] < 4), "waiting is counted"


def test_a_graph_of_four_images_is_filled_up(shell: Shell, fixed_net: Path) -> None:
    said = shell("bench", fixed_net, *FAST, "--json", "--scenario", "single-stream,offline")
    rows = checked(said.json)["measurements"]
    assert [one["configuration"]["batch"] for one in rows] == [4, 4]
    assert "the graph takes 4 images per run: runs were filled up" in rows[0]["notes"]
    assert not any("filled up" in note for note in rows[1]["notes"])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--scenario", "singlestream"], 2, "'single-stream'"),
        (["--rate", "0"], 2, "give one above 0"),
        (["--rate", "-4"], 2, "give one above 0"),
        (["--rate", "nan"], 2, "give one above 0"),
        (["--rate", "many"], 2, "no number of queries"),
        (["--bound", "0"], 2, "must be above 0"),
        (["--rate", "5", "--bound", "20"], 2, "not both"),
        (["--batch", "0"], 2, "at least 1"),
        (["--batch", "1,two"], 2, "'two'"),
        (["--threads", "0"], 2, "at least 1"),
        (["--workers", "0"], 2, "at least 1"),
        (["--serve-batch", "0"], 2, "batch of at least 1"),
        (["--seconds", "0"], 2, "above 0"),
        (["--windows", "2"], 2, "at least 3"),
        (["--seed", "-1"], 2, "at least 0"),
        (["--device", "gpu"], 2, "'gpu'"),
        (["--device", "cpu,cuda"], 3, "CUDAExecutionProvider"),
        (["--device", "tensorrt"], 3, "TensorrtExecutionProvider"),
        (["--precision", "fp8"], 2, "computes in fp32"),
        (["--precision", "fp16,fp16=x.onnx"], 2, "twice"),
        (["--precision", "other=absent.onnx"], 3, "absent.onnx"),
        (["--method", "oclusion"], 2, "occlusion"),
        (["--method", "filters"], 2, "looks at no images"),
        (["--method", "occlusion(window=2,stride=5)"], 2, "larger than window"),
        (["--target", "9", "--method", "occlusion"], 2, "9"),
        (["--compare", "absent.onnx"], 3, "absent.onnx"),
        (["--scenario", "server", "--compare", "demo"], 2, "cannot be compared"),
        (["--images", "absent"], 2, "absent"),
        (["--memory", "lots"], 2, "no amount"),
    ],
)
def test_what_it_refuses(shell: Shell, net: Path, words: list[str], code: int, message: str) -> None:
    if "--images" in words:
        words = [*words, *PLAIN]
    assert message in shell.refused(code, "bench", net, *words)


def test_servers_are_not_interleaved(shell: Shell, net: Path) -> None:
    said = shell.refused(2, "bench", net, "--scenario", "server", "--compare", net)
    assert "cannot be interleaved as servers" in said
    assert "one precision at most" in shell.refused(2, "bench", net, "--precision", "fp32,fp16", "--compare", net)


def test_a_batch_that_a_graph_does_not_take(shell: Shell, fixed_net: Path) -> None:
    assert "takes 4 images per run only" in shell.refused(2, "bench", fixed_net, "--batch", "8")
    assert "takes 4 images per run only" in shell.refused(
        2, "bench", fixed_net, "--batch", "8", "--scenario", "server"
    )


def test_photographs_are_read_as_the_model_reads_them(shell: Shell, net: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    said = shell("bench", net, *FAST, "--images", tmp_path, *PLAIN, "--scenario", "multi-stream", "--json")
    assert checked(said.json)["inputs"] == "1 photograph"
    (tmp_path / "two.png").write_bytes(b"no picture")
    assert "two.png" in shell.refused(3, "bench", net, *FAST, "--images", tmp_path, *PLAIN)
