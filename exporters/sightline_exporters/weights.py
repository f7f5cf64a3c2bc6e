"""Files of weights: where they are kept, how they are fetched, read without running code, and fitted."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import tempfile
import urllib.error
import urllib.request
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from sightline_exporters.errors import BadRequest, BadWeights, MissingExtra, MissingWeights

State = dict[str, torch.Tensor]
TIMEOUT = 10  # seconds without an answer
WRAPPERS = ("state_dict", "model_state_dict", "model")  # how training scripts nest the tensors


def cache_folder() -> Path:
    """Where torch keeps weights, and this package too."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def fetch(url: str, name: str | None = None) -> Path:
    """The cached file behind an address; downloaded once, in one attempt, and checked against the hash in its name.

    Args:
        url: of the file.
        name: in the cache; the last part of the address unless told.

    Raises:
        MissingWeights: not cached and not reachable, or damaged on the way.
    """
    name = name or url.rsplit("/", 1)[-1]
    path = cache_folder() / name
    if path.exists():
        return path
    found = re.search(r"-([0-9a-f]{8,})\.[a-z]+$", name)
    prefix = found.group(1) if found else ""
    try:
        _download(url, path, prefix)
    except OSError as reason:  # URLError, HTTPError, timeouts and broken connections all derive from it
        cause = reason.reason if isinstance(reason, urllib.error.URLError) else reason
        raise MissingWeights(
            f"The weights {name!r} are not in {path.parent} and cannot be fetched from {url} ({cause}).\n"
            f"Put the file{f' (its sha256 begins with {prefix})' if prefix else ''} there, or pass one with "
            "--weights FILE (weights=… in Python; safetensors or a torch file of tensors), or export random weights "
            "(@none, random_weights=True)."
        ) from reason
    return path


def _download(url: str, path: Path, prefix: str) -> None:
    """Stream into a temporary file that takes its name only when whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    digest = hashlib.sha256()
    try:
        with os.fdopen(descriptor, "wb") as file, urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            while block := answer.read(1 << 20):
                digest.update(block)
                file.write(block)
        if not digest.hexdigest().startswith(prefix):
            raise OSError(f"the file's sha256 begins with {digest.hexdigest()[:8]}, not {prefix}")
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_weights(path: Path) -> State:
    """Tensors by name from a safetensors or torch file; a pickle that holds anything but data is refused.

    Raises:
        BadRequest: no such file.
        BadWeights: damaged, or no mapping of names to tensors, or holds code.
    """
    if not path.is_file():
        raise BadRequest(
            f"There is no file of weights at {path}. Pass a safetensors file or a torch file of tensors."
        )
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = dict(content[wrapper])
            break
    tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise BadWeights(f"{path} holds no tensors by name. Save module.state_dict().")
    if all(name.startswith("module.") for name in tensors):  # written under DataParallel
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def fit(module: torch.nn.Module, state: Mapping[str, torch.Tensor], origin: str) -> None:
    """Load tensors into a module, all or none.

    Args:
        module: filled in place.
        state: tensors by name.
        origin: what to call them in an error.

    Raises:
        BadWeights: lists what is missing, unexpected, or of another shape.
    """
    differences = mismatches(module, state)
    if differences:
        raise BadWeights(
            f"{origin} does not fit {type(module).__name__}:\n" + "\n".join(differences) + "\nPass the weights of "
            "this architecture, or build the module yourself and export that."
        )
    # Counters of batches that older files lack say nothing about the function, hence not strict.
    module.load_state_dict(dict(state), strict=False)


def mismatches(module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> list[str]:
    """One line for each kind of difference between a module's names and shapes and those of a state."""
    wanted = {name: tensor.shape for name, tensor in module.state_dict().items()}
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in wanted]
    shapes = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(wanted[name])}"
        for name, tensor in state.items()
        if name in wanted and tensor.shape != wanted[name]
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    return [
        f"  {len(names)} {kind}: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
        for kind, names in kinds.items()
        if names
    ]


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        import safetensors
        import safetensors.torch
    except ModuleNotFoundError as reason:
        raise MissingExtra(
            "Reading .safetensors needs the package 'safetensors': pip install 'sightline[torch]'."
        ) from reason
    try:
        return dict(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, OSError, ValueError) as reason:
        raise BadWeights(f"{path} is no readable safetensors file: {reason}. Fetch or save it again.") from reason


def _read_torch(path: Path) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            # A file of another protocol either loads or raises, and both are dealt with.
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as reason:
        raise BadWeights(
            f"{path} is refused: it is damaged, or holds pickled objects, which may run code, not tensors alone. "
            "Save module.state_dict() with torch.save, or a safetensors file."
        ) from reason
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as reason:
        raise BadWeights(f"{path} is no readable torch file: {reason}. Fetch or save it again.") from reason
    if not isinstance(content, Mapping):
        raise BadWeights(f"{path} holds a {type(content).__name__}, not tensors by name. Save module.state_dict().")
    return dict(cast("Mapping[str, Any]", content))
