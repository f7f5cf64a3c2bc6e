"""What runs CUDA sources on a CPU: waits as a GPU does, and shows what would only sometimes go wrong on one."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from kernels.gpu_on_cpu import stand_in

SIZE = 64  # of a block: two warps
SOURCE = r"""
extern "C" __global__ void together(const int* given, int* made) {
    __shared__ int held[64];
    const int t = threadIdx.x, mine = given[blockIdx.x * 64 + t];
    held[t] = mine;
    __syncthreads();
    int sum = held[63 - t];  // of the other warp
    for (int by = 16; by > 0; by /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, by);
    const int many = __syncthreads_count(mine > 3);
    const unsigned some = __ballot_sync(0xffffffffu, mine > 3), same = __match_any_sync(0xffffffffu, mine);
    made[blockIdx.x * 64 + t] = ((sum * 100 + many) * 100 + __popc(some)) * 100 + __popc(same);
}

extern "C" __global__ void without_waiting(const int* given, int* made) {
    __shared__ int held[64];
    const int t = threadIdx.x;
    held[t] = given[blockIdx.x * 64 + t];
    made[blockIdx.x * 64 + t] = held[63 - t];
}

extern "C" __global__ void with_who_left(const int* given, int* made) {
    if (threadIdx.x == 3) return;
    made[threadIdx.x] = __shfl_xor_sync(0xffffffffu, given[threadIdx.x], 1);
}

extern "C" __global__ void for_each_other(const int* given, int* made) {
    if (threadIdx.x % 32 == 3) __syncthreads();
    else __syncwarp();
}
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    return partial(stand_in(SOURCE, tmp_path_factory.mktemp("kernels")).RawKernel, SOURCE)


@pytest.fixture
def numbers():
    return np.random.default_rng(0).integers(0, 9, (20, SIZE)).astype(np.int32)


def test_threads_wait_for_each_other(kernel, numbers):
    made = np.empty_like(numbers)
    kernel("together")((20,), (SIZE,), (numbers, made))
    for given, found in zip(numbers, made, strict=True):
        warps = given.reshape(2, 32)
        for t, one in enumerate(given):
            own = warps[t // 32]
            expected = (warps[1 - t // 32].sum() * 100 + (given > 3).sum()) * 100 + (own > 3).sum()
            assert found[t] == expected * 100 + (own == one).sum()


def test_who_does_not_wait_is_found_out(kernel, numbers):
    """Threads come in no order, so that some read what is not there yet."""
    made = np.empty_like(numbers)
    kernel("without_waiting")((20,), (SIZE,), (numbers, made))
    assert (made != numbers[:, ::-1]).mean() > 0.2


@pytest.mark.parametrize(
    ("name", "said"), [("with_who_left", "lanes that have left"), ("for_each_other", "and others for the block")]
)
def test_waiting_that_never_ends_is_a_fault(kernel, numbers, name, said):
    with pytest.raises(AssertionError, match=said):
        kernel(name)((1,), (SIZE,), (numbers, np.empty_like(numbers)))


def test_sizes_that_no_gpu_takes(kernel, numbers):
    for grid, block in (((1,), (1025,)), ((1, 65536), (32,))):
        with pytest.raises(AssertionError, match="has 1 to"):
            kernel("without_waiting")(grid, block, (numbers, numbers))


def test_an_argument_of_another_type_is_found_out(kernel, numbers):
    with pytest.raises(AssertionError, match="made is int; got int64"):
        kernel("together")((1,), (SIZE,), (numbers, numbers.astype(np.int64)))
