"""Planted faults named by an audit, a crash that is a finding, and calls that cannot be answered."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from commands.calling import Shell
from problems import convolutional
from sightline.audit.record import read_record, schema
from sightline.audit.run import CannotAudit, audit_one, worker_command
from sightline.audit.worker import Task, result_path
from sightline.cli import call
from sightline.demo import model_path
from sightline.demo.dataset import batch
from sightline.labels import LABELS_KEY
from sightline.preprocess import METADATA_KEY

FAST = ("--section", "identity", "--section", "parity", "--threads", "2")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    for number, pixels in enumerate(batch(21, range(24)).images):
        Image.fromarray(pixels).save(folder / f"{number % 12:02d}_{number}.png")
    return folder


def weight(model: Any, shape: int, change: Callable[[np.ndarray], np.ndarray], place: int = 0) -> None:
    """Change the weight of the so-manieth convolution."""
    name = [node.input[1] for node in model.graph.node if node.op_type == "Conv"][place]
    held = next(one for one in model.graph.initializer if one.name == name)
    array = numpy_helper.to_array(held)
    assert array.ndim == shape
    held.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(array)).astype(np.float32), name))


def four_bits(array: np.ndarray) -> np.ndarray:
    step = np.abs(array).max() / 7
    return np.clip(np.rint(array / step), -8, 7) * step


def four_bits_each(array: np.ndarray) -> np.ndarray:
    step = np.abs(array).reshape(len(array), -1).max(axis=1)[:, None, None, None] / 7
    return np.rint(array / step) * step


def pruned(array: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(array[:5]), array[5:]])


def reordered(model: Any) -> None:
    """The last layer's classes one place further, the names left as they are."""
    last = next(node for node in reversed(model.graph.node) if node.op_type == "Gemm")
    for held in model.graph.initializer:
        if held.name in last.input[1:]:
            array = numpy_helper.to_array(held)
            axis = array.shape.index(12)
            held.CopyFrom(numpy_helper.from_array(np.roll(array, 1, axis=axis), held.name))


def renamed(model: Any) -> None:
    for entry in model.metadata_props:
        if entry.key == LABELS_KEY:
            names = json.loads(entry.value)
            entry.value = json.dumps([*names[:3], "mug", *names[4:]])


def certain(model: Any) -> None:
    name = model.graph.output[0].name
    model.graph.node.append(helper.make_node("Softmax", [name], ["likely"], axis=1))
    model.graph.output[0].name = "likely"


def of_batch(model: Any) -> None:
    """For four images at a time, as some runtimes want it."""
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].ClearField("dim_param")
        value.type.tensor_type.shape.dim[0].dim_value = 4
    del model.graph.value_info[:]


def channels_last(model: Any) -> None:
    image = model.graph.input[0]
    for node in model.graph.node:
        node.input[:] = ["channels_first" if one == image.name else one for one in node.input]
    dims = image.type.tensor_type.shape.dim
    sides = [dims[2].dim_value, dims[3].dim_value, dims[1].dim_value]
    for dim, side in zip(list(dims)[1:], sides, strict=True):
        dim.dim_value = side
    turn = helper.make_node("Transpose", [image.name], ["channels_first"], perm=[0, 3, 1, 2], name="turn")
    model.graph.node.insert(0, turn)


def recorded(model: Any, **fields: Any) -> None:
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = json.dumps(json.loads(entry.value) | fields)


def clipped(model: Any) -> None:
    for name, value in (("low", 0.0), ("high", 6.0)):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Clip"
            node.input.extend(["low", "high"])


def scaled(model: Any) -> None:
    name = model.graph.input[0].name
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "half"))
    for node in model.graph.node:
        node.input[:] = ["scaled" if one == name else one for one in node.input]
    model.graph.node.insert(0, helper.make_node("Mul", [name, "half"], ["scaled"], name="scale"))


PLANTED: dict[str, tuple[Callable[[Any], None], str, str]] = {
    "faithful": (lambda _: None, "", ""),
    "bgr": (lambda model: weight(model, 4, lambda w: w[:, ::-1]), "parity", "colours in the order BGR"),
    "std": (lambda model: recorded(model, std=[0.5] * 3), "identity", "Preprocessing differs in std: 0.5 0.5 0.5"),
    "scaled": (scaled, "parity", "wants other images than it is given"),
    "fourbit": (lambda model: weight(model, 4, four_bits, 4), "identity", "take 15 values only"),
    "fourbit_each": (
        lambda model: weight(model, 4, four_bits_each, 4),
        "identity",
        "take 15 values only in each channel",
    ),
    "pruned": (lambda model: weight(model, 4, pruned, 4), "identity", "; 5 of "),
    "reordered": (reordered, "parity", "12 classes stand in another order"),
    "renamed": (renamed, "identity", "1 classes have other names; class 3 is 'mug'"),
    "certain": (certain, "identity", "puts out probabilities (softmax), the reference scores"),
    "of_batch": (of_batch, "", ""),
    "channels_last": (channels_last, "", ""),
    "relu6": (clipped, "identity", "7 times a clipped ReLU (ReLU6), where the reference has ReLU"),
    "resize": (lambda m: recorded(m, interpolation="nearest"), "identity", "Preprocessing differs in interpolation"),
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, model = tmp_path_factory.mktemp("planted"), onnx.load(model_path())
    for name, (change, _, _) in PLANTED.items():
        made = copy.deepcopy(model)
        change(made)
        onnx.save(made, folder / f"{name}.onnx")
    return folder


@pytest.fixture(scope="module")
def audited(planted: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("audits") / "audit"
    files = [str(planted / f"{name}.onnx") for name in PLANTED]
    assert (
        call(["audit", "demo", *files, "--images", str(scenes), "-o", str(out), "--labels-by", "number", *FAST]) == 1
    )
    return out


@pytest.mark.parametrize("name", PLANTED)
def test_planted_faults_are_named_and_a_faithful_copy_is_not(audited: Path, name: str) -> None:
    record = json.loads((audited / "audit.json").read_text())
    jsonschema.validate(record, schema())
    found = {one["name"]: one for one in record["candidates"]}[name]
    _, section, text = PLANTED[name]
    serious = [(one["section"], one["text"]) for one in found["findings"] if one["severity"] != "note"]
    if not text:
        assert found["passed"]
        assert serious == []
        assert found["figures"]["parity.error_max"] < 1e-4
        return
    assert not found["passed"] or name == "certain"  # its scores are the same: a warning
    assert any(where == section and text in told for where, told in serious), serious


def test_a_finished_audit_is_not_done_again_and_another_is_refused(
    shell: Shell, audited: Path, planted: Path, scenes: Path
) -> None:
    files = [planted / f"{name}.onnx" for name in PLANTED]
    before = {path: path.stat().st_mtime_ns for path in audited.glob("candidates/*/*.json") if path.stem != "task"}
    again = ("audit", "demo", *files, "--images", scenes, "-o", audited, "--labels-by", "number", *FAST)
    assert shell(*again).code == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    refused = shell("audit", "demo", files[0], "--images", scenes, "-o", audited, *FAST)
    assert refused.code == 3
    assert "holds an audit of other models, photographs or options" in refused.err


def test_all_sections_of_one_candidate(shell: Shell, planted: Path, scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "audit"
    few = (
        "--maps",
        "3",
        "--attacked",
        "2",
        "--limit",
        "13",
        "--threads",
        "2",
        "--maps-by",
        "rise",
        "--rise-masks",
        "100",
    )
    said = shell("audit", "demo", planted / "faithful.onnx", "--images", scenes, "-o", out, "--json", *few)
    assert said.code == 0, said.err
    assert said.json["passed"] is True
    figures = said.json["candidates"][0]["figures"]
    assert figures["drift.occlusion_spearman"] > 0.99
    assert figures["drift.control_spearman"] < 0.5
    assert figures["robustness.corrupted_drop"] == 0
    assert figures["drift.rise_spearman"] > 0.999
    assert 0 < figures["drift.rise_floor_spearman"] < 0.999
    assert figures["drift.score_cam_spearman"] is None  # only where it is asked for
    assert figures["drift.saliency_spearman"] > 0.99
    assert figures["faithfulness.infidelity"] > 0
    assert figures["faithfulness.infidelity_change"] == pytest.approx(0, abs=1e-3)
    assert figures["robustness.black_box_drop"] == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "rules hold" in (out / "summary.md").read_text(encoding="utf-8")
    assert (out / "junit.xml").is_file()


def test_the_same_names_with_other_contents_are_refused(
    shell: Shell, planted: Path, scenes: Path, tmp_path: Path
) -> None:
    artefact, photographs, out = tmp_path / "net.onnx", tmp_path / "photographs", tmp_path / "out"
    shutil.copy(planted / "faithful.onnx", artefact)
    shutil.copytree(scenes, photographs)
    words = ("audit", "demo", artefact, "--images", photographs, "-o", out, "--section", "identity", "--threads", "2")
    assert shell(*words).code == 0
    shutil.copy(planted / "fourbit.onnx", artefact)
    refused = shell(*words)
    assert (refused.code, "holds an audit of other models" in refused.err) == (3, True)
    shutil.copy(planted / "faithful.onnx", artefact)
    assert shell(*words).code == 0
    Image.new("RGB", (96, 96)).save(next(photographs.iterdir()))
    refused = shell(*words)
    assert (refused.code, "holds an audit of other models" in refused.err) == (3, True)


def test_one_candidate_that_is_no_network_does_not_stop_the_others(
    shell: Shell, planted: Path, scenes: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    words = ("--images", scenes, "-o", tmp_path / "out", "--section", "identity", "--threads", "2", "--json")
    said = shell("audit", "demo", broken, planted / "faithful.onnx", *words)
    assert said.code == 1
    first, second = said.json["candidates"]
    assert (first["name"], first["passed"], list(first["crashes"])) == ("broken", False, ["opening"])
    assert (second["name"], second["passed"], second["crashes"]) == ("faithful", True, {})
    suite = ElementTree.parse(tmp_path / "out" / "junit.xml").getroot()
    failed = [case.attrib["name"] for case in suite if case.find("failure") is not None]
    assert "opening ends" in failed
    assert failed[-1] == "gate"


def test_normalisation_within_the_graph_is_no_fault(shell: Shell, scenes: Path, tmp_path: Path) -> None:
    baked, out = tmp_path / "baked.onnx", tmp_path / "out"
    assert shell("bake", "demo", "-o", baked).code == 0
    few = ("--maps", "4", "--limit", "8", "--threads", "2", "--json")
    parts = ("--section", "identity", "parity", "drift", "faithfulness")
    said = shell("audit", "demo", baked, "--images", scenes, "-o", out, *parts, *few)
    (found,) = said.json["candidates"]
    assert said.code == 0, found["rules"]
    assert [one for one in found["findings"] if one["severity"] != "note"] == []
    assert found["figures"]["drift.occlusion_spearman"] > 0.95  # the mean colour, rounded to whole pixels
    assert abs(found["figures"]["faithfulness.insertion_change"]) < 0.02
    assert 0 < found["figures"]["faithfulness.max_sensitivity"] < 1


def test_a_network_of_one_score_says_yes_or_no(shell: Shell, scenes: Path, tmp_path: Path) -> None:
    """Its logit is that of class 0 less that of class 1; the candidate says the opposite."""
    for name, sign in (("same", 1.0), ("opposite", -1.0)):
        model = onnx.load(model_path())
        model.graph.initializer.append(numpy_helper.from_array(np.array([[sign], [-sign]], np.float32), "difference"))
        model.graph.initializer.append(numpy_helper.from_array(np.array([0, 1], np.int64), "both"))
        output = model.graph.output[0].name
        model.graph.node.append(helper.make_node("Gather", [output, "both"], ["pair"], axis=1))
        model.graph.node.append(helper.make_node("MatMul", ["pair", "difference"], ["margin"]))
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("margin", 1, ["N", 1]))
        kept = [one for one in model.metadata_props if one.key != LABELS_KEY]
        del model.metadata_props[:]
        model.metadata_props.extend(kept)
        onnx.save(model, tmp_path / f"{name}.onnx")
    words = ("--images", scenes, "-o", tmp_path / "out", "--section", "parity", "--threads", "2", "--json")
    said = shell("audit", tmp_path / "same.onnx", tmp_path / "opposite.onnx", *words)
    assert said.code == 1, said.err
    figures = said.json["candidates"][0]["figures"]
    assert figures["parity.top1_agreement"] == 0
    assert figures["parity.flip_rate"] == 1


def test_a_crash_in_a_section_is_a_finding_and_the_rest_goes_on(audited: Path, tmp_path: Path) -> None:
    task = replace(Task.read(audited / "candidates" / "faithful" / "task.json"), folder=str(tmp_path / "crash"))
    deaths = list[str]()

    def command(path: Path) -> list[str]:
        if "parity" in Task.read(path).wanted:  # the first time it gets there, the runtime aborts
            deaths.append("once")
            script = (
                "import os, sys; from pathlib import Path; from sightline.audit import worker as w; "
                "from sightline.audit.section import sections; "
                "next(one for one in sections() if one.name == 'parity').__class__.run = lambda *_: os.abort(); "
                "w.work(w.Task.read(Path(sys.argv[1])))"
            )
            return [
                "python3" if shutil.which("python3") is None else worker_command(path)[0],
                "-c",
                script,
                str(path),
            ]
        return list(worker_command(path))

    found = audit_one(task, command=command)
    assert deaths == ["once"]
    assert set(found.outcomes) == {"identity"}
    assert "SIGABRT" in found.crashes["parity"]
    assert found.findings[0][1].severity == "fault"
    assert result_path(tmp_path / "crash", "identity").is_file()


def test_a_worker_that_cannot_begin_is_told(audited: Path, tmp_path: Path) -> None:
    task = replace(Task.read(audited / "candidates" / "faithful" / "task.json"), folder=str(tmp_path / "dead"))
    broken = replace(task, candidate=replace(task.candidate, path=str(tmp_path / "gone.onnx")))
    with pytest.raises(CannotAudit, match=r"gone.onnx could not be audited: .*gone.onnx"):
        audit_one(broken)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("demo",), 2, r"Give a reference, candidates and photographs"),
        (("--images", "SCENES", "demo", "OTHER", "-o", "OUT"), 2, r"Models come first: all that follows --images"),
        (("demo", "OTHER", "--images", "SCENES", "-o", "OUT"), 2, r"12 classes and .* 4: they do not answer"),
        (("demo", "BROKEN", "--images", "SCENES", "-o", "OUT"), 3, r"broken.onnx"),
        (("demo", "SAME", "--images", "EMPTY", "-o", "OUT"), 2, r"[Nn]o image"),
        (("demo", "SAME", "--images", "SCENES", "-o", "OUT", "--section", "party"), 2, r"Did you mean 'parity'"),
        (("demo", "SAME", "--images", "SCENES", "-o", "OUT", "--labels-by", "folder"), 2, r"No class is named"),
        (("demo", "SAME", "--images", "SCENES", "-o", "OUT", "--maps", "0"), 2, r"must be at least 1"),
        (("demo", "SAME", "--images", "SCENES", "-o", "OUT", "--threads", "0"), 2, r"must be at least 1"),
        (("--explain", "parity.cosin"), 2, r"Did you mean 'parity.cosine'"),
        (("--diff", "SAME"), 2, r"compares two audits"),
    ],
)  # fmt: skip
def test_calls_that_cannot_be_answered(
    shell: Shell, planted: Path, scenes: Path, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    places: dict[str, object] = {
        "OTHER": convolutional().save(tmp_path),
        "BROKEN": tmp_path / "broken.onnx",
        "SAME": planted / "faithful.onnx",
        "SCENES": scenes, "EMPTY": tmp_path / "empty", "OUT": tmp_path / "out",
    }  # fmt: skip
    said = shell("audit", *(places.get(word, word) for word in words))
    assert said.code == code, said
    assert re.search(message, said.err), said.err


def test_accuracy_that_nobody_can_know_fails_where_it_is_gated(
    shell: Shell, planted: Path, scenes: Path, tmp_path: Path
) -> None:
    gates = tmp_path / "gates.toml"
    gates.write_text('[[rule]]\nfigure = "parity.accuracy"\nmin = 0.5\n')
    asked = ("audit", "demo", planted / "faithful.onnx", "--images", scenes, "--gates", gates, *FAST)
    said = shell(*asked, "-o", tmp_path / "without")
    assert said.code == 1
    assert "parity.accuracy at least 0.5: not measured" in said.out
    assert shell(*asked, "-o", tmp_path / "with", "--labels-by", "number").code == 0
    told = shell("audit", "--explain", "parity.accuracy", "--gates", gates)
    assert "share of photographs whose highest class is their label" in told.out
    changed = shell("audit", "--diff", tmp_path / "without", tmp_path / "with")
    assert shell("audit", "--diff", tmp_path / "without", "--diff", tmp_path / "with").out == changed.out
    assert "parity.accuracy: not measured -> " in changed.out


def test_variants_in_other_precisions(shell: Shell, scenes: Path, tmp_path: Path) -> None:
    half = shell("quantize", "demo", "--to", "fp16", "-o", tmp_path / "half.onnx", "--json").json
    assert half["bytes"] < 0.6 * half["bytes_before"]
    assert half["relative_error"] < 0.01
    codes = shell("quantize", "demo", "--to", "int8", "--calib", scenes, "-o", tmp_path / "int8.onnx", "--json").json
    assert codes["bytes"] < 0.4 * codes["bytes_before"]
    assert codes["relative_error"] < 0.1
    model = onnx.load(tmp_path / "int8.onnx")
    notes = {entry.key: entry.value for entry in model.metadata_props}
    assert METADATA_KEY in notes
    assert notes["sightline.exporter"].endswith("int8, minmax over 24 images")
    assert "int8 needs photographs" in shell("quantize", "demo", "--to", "int8", "-o", tmp_path / "x.onnx").err
    excluded = shell("quantize", "demo", "--to", "fp16", "-o", tmp_path / "y.onnx", "--exclude", "nothing")
    assert "No layer is named 'nothing'" in excluded.err
    for name, to in (("half.onnx", "fp16"), ("int8.onnx", "int8")):
        again = shell("quantize", tmp_path / name, "--to", to, "--calib", scenes, "-o", tmp_path / "z.onnx")
        assert (again.code, "already" in again.err) == (2, True), again


@pytest.mark.parametrize("calibration", ["entropy", "percentile"])
def test_any_number_of_photographs_calibrates(
    shell: Shell, planted: Path, scenes: Path, tmp_path: Path, calibration: str
) -> None:
    """Seven are no multiple of the usual batch of 8, nor of the four that one graph takes."""
    asked = ("--to", "int8", "--calib", scenes, "--limit", "7", "--calibration", calibration, "--json")
    for name in ("faithful", "of_batch"):
        made = shell("quantize", planted / f"{name}.onnx", *asked, "-o", tmp_path / f"{name}.onnx")
        assert made.code == 0, made.err
        assert made.json["relative_error"] < 0.2


def test_several_photographs_follow_one_flag(shell: Shell, scenes: Path, tmp_path: Path) -> None:
    """As a shell writes out photos/*.png; the flag may come again, and ends at the next one."""
    first, second, third = sorted(scenes.glob("*.png"))[:3]
    out = tmp_path / "codes.onnx"
    asked = ("--calib", first, second, "--to", "int8", "--calib", third, "--exclude", "stage1", "stage2", "-o", out)
    assert shell("quantize", "demo", *asked).code == 0
    notes = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert notes["sightline.exporter"].endswith("over 3 images")
    audited = shell(
        "audit", "demo", out, "--images", first, second, "--section", "identity", "-o", tmp_path / "audit"
    )
    assert audited.code in (0, 1), audited
    assert read_record(tmp_path / "audit" / "audit.json")["images"] == 2
    assert "repeat the flag for several" in " ".join(shell("run", "inversion", "--help").out.split())


def test_a_module_stays_in_full_precision(shell: Shell, scenes: Path, tmp_path: Path) -> None:
    asked = ("quantize", "demo", "--to", "int8", "--calib", scenes, "--limit", "8")
    assert shell(*asked, "-o", tmp_path / "out.onnx", "--exclude", "stage2").code == 0
    model, source = onnx.load(tmp_path / "out.onnx"), onnx.load(model_path())
    names = {held.name for held in model.graph.initializer if held.data_type == onnx.TensorProto.FLOAT}
    modules = {node.name: entry.value for node in source.graph.node for entry in node.metadata_props
               if entry.key == "pkg.torch.onnx.name_scopes"}  # fmt: skip
    kernels = [(modules[node.name], node.input[1]) for node in source.graph.node if node.op_type == "Conv"]
    assert any("'stage2'" in scope for scope, _ in kernels)
    assert all((name in names) == ("'stage2'" in scope) for scope, name in kernels)


@pytest.mark.parametrize("to", ["fp16", "int8"])
def test_a_thorough_audit_of_a_variant(shell: Shell, scenes: Path, tmp_path: Path, to: str) -> None:
    """Gradients are compared, RISE and Score-CAM too; five severities; a curve on both with its intervals."""
    variant, out = tmp_path / "variant.onnx", tmp_path / "audit"
    assert shell("quantize", "demo", "--to", to, "--calib", scenes, "-o", variant).code == 0
    few = ("--maps", "3", "--attacked", "3", "--limit", "12", "--threads", "2", "--queries", "12", "--json")
    asked = ("--thorough", "--section", "drift", "--section", "robustness")
    said = shell("audit", "demo", variant, "--images", scenes, "-o", out, *few, *asked)
    assert said.code in (0, 1), said.err
    figures = said.json["candidates"][0]["figures"]
    for name in ("occlusion", "rise", "score_cam", "saliency"):
        assert figures[f"drift.{name}_spearman"] > (0.9 if to == "fp16" else 0.4), name
        assert 0 <= figures[f"drift.{name}_shift"] < 0.2
    details = json.loads((out / "candidates" / "variant" / "robustness.json").read_text())["details"]
    assert details["severities"] == [1, 2, 3, 4, 5]
    assert all(len(side) == 5 for both in details["kept"].values() for side in both)
    curves = details["black_box"]
    assert curves["queries"] == 12  # what is named goes before --thorough
    assert curves["epsilons"] == [0, 2, 4, 8]
    for curve in curves["withstand"]:
        shares = [share for share, _, _ in curve]
        assert shares[0] == 1
        assert shares == sorted(shares, reverse=True)  # what a smaller change fools, a larger one does
        assert all(low <= share <= high for share, low, high in curve)
    drop = figures["robustness.black_box_drop"]
    assert figures["robustness.black_box_drop_low"] <= drop <= figures["robustness.black_box_drop_high"]
    assert drop == pytest.approx(curves["withstand"][0][-1][0] - curves["withstand"][1][-1][0])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("--severities", "6"), "--severities 6 must lie in 1 to 5"),
        (("--maps-by", "lime"), "No way to make maps is named 'lime'"),
        (("--queries", "0"), "--queries"),
    ],
)
def test_depths_that_there_are_not(
    shell: Shell, scenes: Path, tmp_path: Path, asked: tuple[str, ...], message: str
) -> None:
    said = shell("audit", "demo", "demo", "--images", scenes, "-o", tmp_path / "out", *asked)
    assert said.code == 2
    assert message in said.err
