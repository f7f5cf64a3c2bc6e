"""Run by test_knn: searches the shards of a folder within an address space smaller than they are."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sightline_kernels.knn import cpu

ROOM = 160 * 2**20  # bytes beyond what the process has when everything is compiled


class Shards(Sequence):
    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, number):
        return np.load(self.paths[number], mmap_mode="r")


if __name__ == "__main__":
    paths = sorted(Path(sys.argv[1]).glob("*.npy"))
    asked = np.full((len(paths), 64), 100, np.float32) + np.arange(len(paths), dtype=np.float32)[:, None]
    cpu.search(np.ones((99, 64), np.float32), asked, 1, threads=2)
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + ROOM, has + ROOM))
    try:
        held = [np.load(path, mmap_mode="r") for path in paths]
    except OSError:
        held = None
    if held is not None:
        sys.exit("The limit does not bite: all shards could be mapped at once.")
    print(*cpu.search(Shards(paths), asked, 1, threads=2)[1][:, 0])
