"""What the twin computes in, while it does: threads, TF32, bfloat16. torch has one setting of each per process."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import torch

from sightline.precision import Precision


@contextmanager
def arithmetic(device: torch.device, precision: Precision, threads: int | None) -> Generator[None]:
    """Compute so inside, and as before outside.

    In bf16 layers multiply and convolve in bfloat16 while sums, normalisations and the gradient of the image stay in
    float32 (torch's autocast). In fp32 a GPU does not use TF32 either, which torch would for convolutions.

    Args:
        device: of the tensors.
        precision: of layers.
        threads: of the CPU; as many as before when None.
    """
    matmul, cudnn = torch.backends.cuda.matmul, cast("Any", torch.backends.cudnn)
    before = torch.get_num_threads(), cudnn.allow_tf32, matmul.allow_tf32
    torch.set_num_threads(threads or before[0])
    cudnn.allow_tf32 = matmul.allow_tf32 = precision == "tf32"
    half = precision == "bf16"
    try:
        # no weight here has a gradient, so autocast would keep nothing, and CUDA graphs refuse its cache
        with torch.autocast(device.type, torch.bfloat16, enabled=half, cache_enabled=False):
            yield
    finally:
        torch.set_num_threads(before[0])
        cudnn.allow_tf32, matmul.allow_tf32 = before[1:]
