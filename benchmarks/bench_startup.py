"""The command's start, whole process, against the imports that a peer's script begins with."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import Any

import pytest

PEERS = {
    "python, import torch": ("-c", "import torch"),
    "python, import captum.attr": ("-c", "import captum.attr"),
}


@pytest.mark.parametrize("words", [("--help",), ("methods",)], ids=" ".join)
def test_startup(race: Any, words: tuple[str, ...]) -> None:
    ours = partial(start, "-c", "from sightline.cli import main; main()", *words)
    peers = {name: partial(start, *arguments) for name, arguments in PEERS.items()}
    for run in (ours, *peers.values()):
        run()  # so that no subject reads its files from a cold disk
    race(ours, peers, case=f"sightline {' '.join(words)}", metric="wall time", unit="s")


def start(*arguments: str) -> None:
    """Run Python until it ends well."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
