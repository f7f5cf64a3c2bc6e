"""The gradient by phases against torch's transposed convolution, in double precision."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.twin.strided_gradient import StridedConvolution, pays

SIDES = st.integers(1, 9)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**16), batch=st.integers(1, 3), channels=st.integers(1, 4), filters=st.integers(1, 5),
    kernel=st.tuples(SIDES, SIDES), stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    pads=st.tuples(st.integers(0, 4), st.integers(0, 4)), beyond=st.tuples(st.integers(0, 9), st.integers(0, 9)),
)  # fmt: skip
def test_it_is_the_transposed_convolution(
    seed: int, batch: int, channels: int, filters: int, kernel: tuple[int, int], stride: tuple[int, int],
    pads: tuple[int, int], beyond: tuple[int, int],
) -> None:  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    size = [max(1, k - 2 * p) + more for k, p, more in zip(kernel, pads, beyond, strict=True)]
    x = torch.randn(batch, channels, *size, generator=generator, dtype=torch.float64)
    weight = torch.randn(filters, channels, *kernel, generator=generator, dtype=torch.float64)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    made = StridedConvolution.apply(ours, weight, None, list(stride), list(pads))
    expected = torch.conv2d(theirs, weight, None, stride, pads)
    torch.testing.assert_close(made, expected)
    arriving = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    (found,), (told,) = torch.autograd.grad(made, ours, arriving), torch.autograd.grad(expected, theirs, arriving)
    torch.testing.assert_close(found, told)


def test_it_is_taken_where_the_image_is_read_and_nowhere_else() -> None:
    image, inner = torch.zeros(1, 3, 9, 9, requires_grad=True), torch.zeros(1, 64, 9, 9, requires_grad=True)
    reads_image, reads_maps = torch.zeros(8, 3, 7, 7), torch.zeros(8, 64, 3, 3)
    assert pays(image, reads_image, (2, 2), (1, 1), 1)
    assert not pays(image, reads_image, (1, 1), (1, 1), 1)
    assert not pays(image, reads_image, (2, 2), (2, 2), 1)
    assert not pays(image.detach(), reads_image, (2, 2), (1, 1), 1)
    assert not pays(image, reads_image.requires_grad_(), (2, 2), (1, 1), 1)
    assert not pays(inner, reads_maps, (2, 2), (1, 1), 1)
