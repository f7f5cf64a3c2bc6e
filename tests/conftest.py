"""Models, photographs and closed-form problems that many tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from problems import Problem
from sightline.model import Model, load

SHARED = Path(__file__).parents[2] / "shared"
THREADS = 2  # of every runtime in the tests
Open = Callable[..., Model]


@pytest.fixture
def open_problem(tmp_path: Path) -> Iterator[Open]:
    """Loads a problem's graph; options are those of ``load``."""
    opened: list[Model] = []

    def open_(problem: Problem, **options: Any) -> Model:
        if problem.proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param and "size" not in options:
            options["size"] = problem.shape[1:]
        options.setdefault("output", problem.proto.graph.output[-1].name)
        opened.append(load(problem.save(tmp_path), **options))
        return opened[-1]

    yield open_
    for model in opened:
        model.close()


@pytest.fixture(scope="session")
def squeezenet_path() -> Path:
    """A real ImageNet SqueezeNet 1.0."""
    path = SHARED / "models" / "squeezenet1_0.onnx"
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine; it is not part of the repository")
    return path


@pytest.fixture(scope="session")
def imagenet_labels(squeezenet_path: Path) -> Path:
    return squeezenet_path.with_name("imagenet_labels.json")


@pytest.fixture(scope="session")
def photos(squeezenet_path: Path) -> Path:
    """A folder of 800 photographs; each file name begins with its class index."""
    folder = SHARED / "images"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not on this machine; it is not part of the repository")
    return folder


@pytest.fixture(scope="session")
def noise_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five small noise pictures of different sizes."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(1)
    for row, (height, width) in enumerate([(20, 30), (31, 17), (9, 9), (12, 40), (25, 25)]):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{row}.png")
    return folder
