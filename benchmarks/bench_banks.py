"""Banks: extraction from files, units in one pass and t-SNE, against what people would write with other libraries."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torchvision
from networks import MODELS, Network
from PIL import Image
from recording import Session, append
from sklearn.manifold import TSNE, trustworthiness
from torch.utils.data import DataLoader, Dataset

import sightline
from sightline.abilities import Taps
from sightline.bank.bank import open_bank
from sightline.bank.projection import principal_components, tsne
from sightline.bank.source import Source
from sightline.bank.space import written
from sightline.bank.writing import index_images, shard_size
from sightline.job.inputs import Inputs, inputs_from, load_photo
from sightline.job.manifest import JobHeader
from sightline.job.prefetch import prefetch
from sightline.methods.forward.features import Descriptors, Features
from sightline.units.survey import DECODERS, survey

PHOTOGRAPHS = 400
WORKERS = 2
PER_RUN = 32
LAYERS = ("features.3", "features.5", "features.9", "features.12")  # of SqueezeNet: all channels of each


class Photographs(Dataset[torch.Tensor]):
    """Files as the peer reads them: PIL, and torchvision's transforms for ImageNet."""

    def __init__(self, files: list[Path]):
        self._files = files
        self._transform = torchvision.transforms.Compose([
            torchvision.transforms.Resize(256), torchvision.transforms.CenterCrop(224),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self._files[index]) as image:
            return self._transform(image.convert("RGB"))


def photographs(count: int) -> list[Path]:
    """Some of those beside the checkout, spread evenly."""
    folder = MODELS.parent / "images"
    if not folder.is_dir():
        pytest.skip("the photographs are not beside the checkout")
    files = sorted(folder.iterdir())
    return [files[place] for place in np.linspace(0, len(files) - 1, min(count, len(files))).astype(int)]


def test_extraction(network: Network, race: Any, session: Session, tmp_path: Path) -> None:
    """Ours also hashes every file, keeps a table of rows and syncs its files to the disk."""
    if not network.title.startswith(("SqueezeNet", "ResNet-18")):
        pytest.skip("a small and a middle network are enough")
    files = photographs(PHOTOGRAPHS)
    squeezed, module = network.title.startswith("SqueezeNet"), cast(Any, network.module)
    trunk = module.features if squeezed else torch.nn.Sequential(*list(module.children())[:-2])
    maps = [one.name for one in network.model.layers if len(one.shape) == 4 and one.shape[2] > 1]
    layer = network.model.layers.resolve("features.12") if squeezed else maps[-1]
    folders = (tmp_path / f"bank{number}" for number in itertools.count())
    ours = partial(index, network, layer, files, folders, session.threads)
    peers: dict[str, Any] = {}
    for title, layout in {"": torch.contiguous_format, ", channels last": torch.channels_last}.items():
        arranged = copy.deepcopy(trunk).to(memory_format=layout)
        peers[f"torchvision, DataLoader, torch{title}"] = partial(
            extract, arranged, layout, files, tmp_path / "p.npy"
        )
    found = ours()
    for run in peers.values():
        np.testing.assert_allclose(found, run(), rtol=1e-2, atol=1e-2 * float(np.abs(found).max()))
    race(
        ours, peers, case=f"extraction, {network.title}, {len(files)} JPEG files", metric="throughput",
        unit="images/s", work=len(files),
    )  # fmt: skip
    share = decoding(network, files) * race_rate(ours, len(files)) / session.threads
    _record(session, f"extraction, {network.title}", "share of the processor that decodes", "share", share)


def index(network: Network, layer: str, files: list[Path], folders: Iterator[Path], threads: int) -> Any:
    """(N, D) what a bank holds of the files after it was made."""
    method = Features(layers=(layer,))
    plan = network.model.plan(method, threads=threads).measured(len(files))
    empty = plan.run()
    assert isinstance(empty, Descriptors)
    header = JobHeader(
        kind="index", model="", model_sha256=network.model.sha256, method=repr(method), target="",
        preprocess_sha256=network.model.preprocess.sha256, layout=written(empty.spaces), dtype="float32",
        batch=plan.settings.batch or 1, shard_size=shard_size(empty.values.shape[1], "float32"),
    )  # fmt: skip
    folder, inputs = next(folders), inputs_from(files)
    source = Source.of(str(network.model.path), network.model, method)
    index_images(folder, header, inputs, load_photo(network.model.photograph), plan.run, source=source)
    bank = open_bank(folder)
    return bank.values(bank.space())


def extract(module: torch.nn.Module, layout: Any, files: list[Path], path: Path) -> Any:
    """(N, D) the loop that people write."""
    loader = DataLoader(Photographs(files), batch_size=PER_RUN, num_workers=WORKERS)
    with torch.inference_mode():
        found = [module(batch.contiguous(memory_format=layout)).mean((2, 3)).numpy() for batch in loader]
    np.save(path, np.concatenate(found))
    return np.load(path)


def decoding(network: Network, files: list[Path]) -> float:
    """Processor seconds that reading, decoding and preprocessing one file take."""
    load, start = load_photo(network.model.photograph), time.process_time()
    for one in inputs_from(files[:100]).entries:
        load(one)
    return (time.process_time() - start) / min(100, len(files))


def race_rate(run: Any, work: int) -> float:
    """Images per second of one more run."""
    start = time.perf_counter()
    run()
    return work / (time.perf_counter() - start)


def test_units(network: Network, race: Any, session: Session) -> None:
    """The strongest patches of all channels of four layers, against the forward passes alone on the same files."""
    if not network.title.startswith("SqueezeNet"):
        pytest.skip("one network is enough")
    inputs = inputs_from(photographs(800))
    load = load_photo(network.model.photograph)
    layers = [network.model.layers.resolve(layer) for layer in LAYERS]
    plan = network.model.plan(Features(layers=LAYERS), threads=session.threads).measured(len(inputs))
    oracle, batch = cast(Taps, network.model.oracle(plan)), plan.settings.batch or 1
    forward = network.model.plan(sightline.Predict(), threads=session.threads)
    scores = network.model.oracle(forward)

    def alone() -> None:
        group: list[Any] = []
        for _, made in prefetch(inputs.entries, load, threads=DECODERS, ahead=2 * batch):
            group.append(cast(Any, made).tensor)
            if len(group) == batch:
                scores.logits(np.stack(group))
                group.clear()

    def kept() -> Any:
        return survey(oracle, inputs.entries, load, layers, k=9, batch=batch)

    found = kept()
    brute_force(found, oracle, load, inputs, layers[-1])
    alone()
    race(
        kept, {"forward passes alone": alone}, case=f"units, 4 layers, {network.title}, {len(inputs)} photographs",
        metric="throughput", unit="images/s", work=len(inputs),
    )  # fmt: skip


def brute_force(found: Any, oracle: Taps, load: Any, inputs: Inputs, layer: str) -> None:
    """The same peaks from all maps of a layer held at once."""
    maps = np.concatenate([
        oracle.taps(np.stack([load(one).tensor for one in inputs.entries[start : start + 16]]), [layer])[layer]
        for start in range(0, len(inputs), 16)
    ])  # fmt: skip
    best = maps.reshape(*maps.shape[:2], -1).max(axis=2)  # (N, C)
    order = np.argsort(-best, axis=0, kind="stable")[:9].T  # (C, k)
    peaks = found.layers[layer].peaks
    scores = np.take_along_axis(best.T, order, 1)
    np.testing.assert_allclose(peaks.scores, scores, rtol=1e-4, atol=1e-4)
    assert (peaks.images == order)[scores > 0].mean() > 0.999  # equal up to rounding, where two are all but equal


def test_tsne(network: Network, race: Any, session: Session) -> None:
    """Points as people have them: a few thousand descriptors."""
    if not network.title.startswith("SqueezeNet"):
        pytest.skip("one network is enough")
    layer = network.model.layers.resolve("features.12")
    oracle = cast(Taps, network.model.oracle(network.model.plan(Features(layers=(layer,)), threads=session.threads)))
    load = load_photo(network.model.photograph)
    entries = inputs_from(photographs(800)).entries
    maps = [oracle.taps(load(one).tensor[None], [layer])[layer] for one in entries]
    rows = np.concatenate([one[0, :, 3:10:3, 3:10:3].reshape(one.shape[1], -1).T for one in maps])[:4000]
    reduced = principal_components([rows], 50).project(rows)  # as its manual advises
    peer = TSNE(init="pca", random_state=0, n_jobs=session.threads)
    found: dict[str, Any] = {}

    def ours() -> None:
        found["sightline"] = tsne([rows], threads=session.threads).coordinates

    def theirs() -> None:
        found["scikit-learn"] = peer.fit_transform(reduced)

    ours()
    theirs()
    race(
        ours, {"scikit-learn, of 50 components": theirs}, case=f"t-SNE, {len(rows):,} x {rows.shape[1]}",
        metric="time", unit="s",
    )  # fmt: skip
    for subject, placed in found.items():
        value = float(trustworthiness(rows, placed, n_neighbors=10))
        _record(session, f"t-SNE, {len(rows):,} x {rows.shape[1]}", "trustworthiness", "share", value, subject)


def _record(session: Session, case: str, metric: str, unit: str, value: float, subject: str = "sightline") -> None:
    print(f"{case}: {subject}: {metric} {value:.4f} {unit}")
    append(session.path, [
        session.row(
            benchmark="banks", case=case, subject=subject, metric=metric, unit=unit, value=value, low=value,
            high=value, rounds=1, ratio_to="", ratio=None, ratio_low=None, ratio_high=None, others=None,
        )
    ])  # fmt: skip
