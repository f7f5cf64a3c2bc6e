"""A shell, a small network and small pictures for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands.calling import Shell
from problems import convolutional

PLAIN = ("--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25")


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture(scope="session")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of 3x7x6 pixels and 4 classes, without preprocessing or labels."""
    return convolutional("net").save(tmp_path_factory.mktemp("net"))
