"""Files of weights: read as data, fitted whole, fetched once or explained."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sightline_exporters.errors import BadRequest, BadWeights, MissingWeights
from sightline_exporters.weights import cache_folder, fetch, fit, read_weights


def linear(seed: int) -> torch.nn.Linear:
    torch.manual_seed(seed)
    return torch.nn.Linear(4, 3)


@pytest.mark.parametrize("nesting", [None, "state_dict", "model", "parallel"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_reads_both_formats(tmp_path: Path, suffix: str, nesting: str | None) -> None:
    state = linear(1).state_dict()
    stored = {f"module.{k}": v for k, v in state.items()} if nesting == "parallel" else state
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(stored, path)
    else:
        torch.save({nesting: stored, "epoch": 3} if nesting in ("state_dict", "model") else stored, path)
    module = linear(2)
    fit(module, read_weights(path), str(path))
    assert torch.equal(module.weight, state["weight"])
    assert torch.equal(module.bias, state["bias"])


def test_what_does_not_fit_is_listed_and_nothing_is_loaded() -> None:
    module = linear(1)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = {"weight": torch.zeros(5, 4), "biaz": torch.zeros(3)}
    with pytest.raises(BadWeights) as caught:
        fit(module, state, "mine.pth")
    message = str(caught.value)
    assert "mine.pth does not fit Linear" in message
    assert "1 missing: bias" in message
    assert "1 unexpected: biaz" in message
    assert "1 of another shape: weight (5, 4) instead of (3, 4)" in message
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_counters_of_batches_may_be_missing() -> None:
    module = torch.nn.BatchNorm2d(2)
    state = {name: torch.full((2,), 2.0) for name in ("weight", "bias", "running_mean", "running_var")}
    fit(module, state, "old.pth")
    assert module.running_var is not None
    assert module.running_var.tolist() == [2.0, 2.0]


class Payload:
    """Runs code when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (str(self.mark),)


def test_pickled_code_is_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for path, save in ((tmp_path / "zip.pth", torch.save), (tmp_path / "bare.pth", _dump)):
        save({"weight": torch.zeros(1), "extra": Payload(mark)}, path)
        with pytest.raises(BadWeights, match="pickled objects"):
            read_weights(path)
    torch.save(linear(1), tmp_path / "module.pth")
    with pytest.raises(BadWeights, match="pickled objects"):
        read_weights(tmp_path / "module.pth")
    assert not mark.exists()


def _dump(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".pth":
        torch.save(linear(1).state_dict(), whole)
    else:
        safetensors.torch.save_file(linear(1).state_dict(), whole)
    contents = [b"", b"no weights at all", whole.read_bytes()[: whole.stat().st_size // 2]]
    for content in contents:
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(content)
        with pytest.raises(BadWeights, match=r"damaged\.(pth|safetensors)"):
            read_weights(path)


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(BadWeights, match="holds a list"):
        read_weights(tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(BadWeights, match="no tensors"):
        read_weights(tmp_path / "none.pth")
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(BadWeights):
        read_weights(tmp_path / "other.pth")
    with pytest.raises(BadRequest, match="no file of weights"):
        read_weights(tmp_path / "absent.pth")


def test_without_a_network_the_file_is_named(empty_cache: Path) -> None:
    with pytest.raises(MissingWeights) as caught:
        fetch("https://weights.invalid/models/net-0123abcd.pth")
    message = str(caught.value)
    for part in (
        "net-0123abcd.pth",
        str(empty_cache),
        "0123abcd",
        "https://weights.invalid/models",
        "--weights FILE",
        "@none",
    ):
        assert part in message
    assert caught.value.exit_code == 3
    assert list(empty_cache.iterdir()) == []  # nothing half-written


def test_a_cached_file_needs_no_network(empty_cache: Path) -> None:
    assert cache_folder() == empty_cache
    empty_cache.mkdir(parents=True)
    (empty_cache / "net-0123abcd.pth").write_bytes(b"cached")
    assert fetch("https://weights.invalid/models/net-0123abcd.pth").read_bytes() == b"cached"


def test_a_download_is_checked_against_its_name(empty_cache: Path, tmp_path: Path) -> None:
    content = bytes(range(256)) * 9
    good, bad = (f"net-{prefix}.pth" for prefix in (hashlib.sha256(content).hexdigest()[:8], "00000000"))
    for name in (good, bad):
        (tmp_path / name).write_bytes(content)
    assert fetch((tmp_path / good).as_uri()).read_bytes() == content
    with pytest.raises(MissingWeights, match="sha256 begins with"):
        fetch((tmp_path / bad).as_uri())
    assert [path.name for path in empty_cache.iterdir()] == [good]
