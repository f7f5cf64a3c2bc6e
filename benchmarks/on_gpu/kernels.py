"""The kernels in CuPy: each against its reference, then beside what torch and the CPU's kernel take."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import numpy as np

from on_gpu.setting import Setting

METRICS = ("l2", "cosine", "inner_product")


def waiting() -> Callable[[], object]:
    """Until CuPy and torch are done."""
    import cupy
    import torch

    def wait() -> None:
        cupy.cuda.Device().synchronize()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return wait


def tensor(setting: Setting, array: Any) -> Any:
    """Torch's view of numbers of the host, on the device."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(array)).to(setting.device)


def shared(setting: Setting, tensor: Any) -> Any:
    """CuPy's view of a tensor, without a copy."""
    import cupy

    return tensor.numpy() if setting.dry else cupy.from_dlpack(tensor)


def set_tf32(allowed: bool) -> None:
    """For torch's products and convolutions."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def knn(setting: Setting) -> None:
    """Exact neighbours: forms agree, then 1M x 512 beside torch's product and topk, and FAISS where it is."""
    from sightline_kernels.knn import cuda, reference

    def agrees(metric: Any, seed: int) -> str:
        random = np.random.default_rng(seed)
        rows = random.standard_normal((setting.size(5000, 120), 67)).astype(np.float16 if seed % 2 else np.float32)
        rows[40:60] = rows[3]
        mask = random.random(len(rows)) < 0.9
        queries = random.standard_normal((setting.size(33, 2), 67)).astype(np.float32)
        queries[0] = rows[3]
        for k in (1, 10, setting.size(100, 12)):
            expected = reference.search(rows, queries, k, metric=metric, mask=mask)
            for screen in get_args(cuda.Screen):
                found = cuda.Bank(rows, metric=metric, mask=mask, screen=screen).search(queries, k)
                np.testing.assert_array_equal(found[1], expected[1], err_msg=screen)
                np.testing.assert_array_equal(found[0], expected[0], err_msg=screen)
        return "k = 1 to 100, ties, mask, all screens"

    for metric, seed in itertools.product(METRICS, (0, 1)):
        setting.check(f"knn, {metric}, seed {seed}", partial(agrees, metric, seed))
    setting.attempt("knn timings", partial(_knn_timings, setting))


def _knn_timings(setting: Setting) -> None:
    import torch

    from sightline_kernels.knn import cuda

    count, depth = setting.size(1_000_000, 300), setting.size(512, 16)
    generator = torch.Generator(device=setting.device).manual_seed(0)
    rows = torch.randn(count, depth, generator=generator, device=setting.device)
    host, halves = rows.cpu().numpy(), 0.5 * rows.square().sum(1)
    wait = waiting()
    bank = cuda.Bank(host, metric="l2")
    index = faiss_index(host) if not setting.dry else None

    def by_torch(queries: Any, k: int, tf32: bool) -> Any:
        set_tf32(tf32)
        # in steps that leave room: all scores of 1,000 queries are 4 GB
        found = [torch.topk(part @ rows.T - halves, k, dim=1) for part in queries.split(256)]
        return torch.cat([one.indices for one in found]).cpu()

    ratios: list[float] = []
    for queries_count, k in itertools.product((1, 16, 256, setting.size(1000, 4)), (10, 100)):
        if setting.dry and queries_count > 4:
            continue
        queries = rows[:queries_count] + 0.1 * torch.randn(
            queries_count, depth, generator=generator, device=setting.device
        )
        asked = queries.cpu().numpy()
        exact = torch.from_numpy(bank.search(asked, k)[1])
        recall = (by_torch(queries, k, True)[:, :, None] == exact[:, None, :]).any(2).double().mean().item()
        peers = {
            "torch, fp32 products and topk": partial(by_torch, queries, k, False),
            f"torch, TF32 products and topk, recall {recall:.4f}": partial(by_torch, queries, k, True),
        }
        if index is not None:
            peers["FAISS on the GPU"] = partial(index.search, asked, k)
        ratio = setting.race(
            partial(bank.search, asked, k), peers, unit="queries/s", work=queries_count, wait=wait,
            case=f"random {count:,} x {depth}, {queries_count:,} queries, k = {k}",
        )  # fmt: skip
        ratios += [] if ratio is None else [ratio]
    set_tf32(False)
    if ratios:
        mean = float(np.exp(np.log(ratios).mean()))
        case = f"random {count:,} x {depth}, all"
        setting.figure(case, "sightline", "geometric mean of ratios to the best peer", "ratio", mean)


def faiss_index(rows: Any) -> Any:
    """FAISS's flat index on the GPU; None where FAISS has no GPU."""
    try:
        import faiss

        index = faiss.GpuIndexFlatL2(faiss.StandardGpuResources(), rows.shape[1])
        index.add(rows)
    except Exception:  # not there, built for CPUs, or not for this chip
        return None
    return index


def gram(setting: Setting) -> None:
    """Gram matrices: forms agree, then maps on the device beside ``torch.bmm``."""
    from sightline_kernels.gram import cuda, reference
    from sightline_kernels.gram.resident import cuda as resident

    def agrees(shape: tuple[int, ...], dtype: type, on_device: bool, arithmetic: Any = "fp32") -> str:
        import cupy

        random = np.random.default_rng(len(shape))
        maps = (random.standard_normal(shape) + 0.5).astype(dtype)
        expected = reference.gram(maps)
        by = partial(resident.gram, arithmetic=arithmetic)
        found = cupy.asnumpy(by(cupy.asarray(maps))) if on_device else cuda.gram(maps)
        np.testing.assert_array_equal(found, found.transpose(0, 2, 1))
        error = float(np.abs(found - expected).max() / np.abs(expected).max())
        if not error < (1e-5 if arithmetic == "fp32" else 2e-3):
            raise AssertionError(f"apart by {error:.3g} of the largest")
        return f"apart by {error:.2g} of the largest"

    shapes = [(2, 64, 56, 57), (1, 131, 1500), (3, 512, 14, 14), (1, 33, 1025)]
    for shape, dtype, on_device in itertools.product(shapes, (np.float32, np.float16), (False, True)):
        shape = tuple(setting.size(side, min(side, 40)) for side in shape)
        name = f"gram, {shape}, {np.dtype(dtype)}, {'maps on the device' if on_device else 'maps on the host'}"
        setting.check(name, partial(agrees, shape, dtype, on_device))
        if on_device and dtype is np.float32:
            setting.check(f"{name}, TF32", partial(agrees, shape, dtype, on_device, "tf32"))
    setting.attempt("gram timings", partial(_gram_timings, setting))


def _gram_timings(setting: Setting) -> None:
    import torch

    from sightline_kernels.gram.resident import cuda as resident

    wait = waiting()
    layers = [(8, 64, 224), (8, 128, 112), (8, 256, 56), (8, 512, 28), (1, 512, 64)]
    for batch, channels, side in layers[: setting.size(5, 1)]:
        batch, channels, side = (setting.size(n, t) for n, t in ((batch, 2), (channels, 32), (side, 6)))
        for dtype in (torch.float32, torch.float16):
            maps = torch.randn(batch, channels, side * side, device=setting.device).to(dtype)
            ours = shared(setting, maps)

            def by_torch(tf32: bool, maps: Any = maps, positions: int = side * side) -> Any:
                set_tf32(tf32)
                return torch.bmm(maps, maps.transpose(1, 2)) / positions

            exact = "fp32" if dtype is torch.float32 else "fp16 in and out"
            peers = {f"torch.bmm, {exact}": partial(by_torch, False)}
            case = f"gram, {batch} x {channels} x {side}², {str(dtype).removeprefix('torch.')}, on the device"
            setting.race(
                partial(resident.gram, ours), peers, case=case, unit="matrices/s", work=batch, wait=wait
            )  # fmt: skip
            if dtype is torch.float32:
                setting.race(
                    partial(resident.gram, ours, arithmetic="tf32"), {"torch.bmm, TF32": partial(by_torch, True)},
                    case=f"{case}, TF32", unit="matrices/s", work=batch, wait=wait,
                )  # fmt: skip
    set_tf32(False)


def scanline(setting: Setting) -> None:
    """Textures pixel by pixel: the same pixels as the CPU's kernel, then beside it."""
    from sightline_kernels.scanline import cpu, cuda

    random = np.random.default_rng(0)
    sample = random.integers(0, 256, (setting.size(96, 12), setting.size(96, 12), 3), np.uint8)

    def made(form: Any, side: int, window: int, order: Any) -> Any:
        canvas, known = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.bool_)
        canvas[:5, :5], known[:5, :5] = sample[:5, :5], True
        form.synthesise(sample, canvas, known, window=window, order=order)
        return canvas

    def agrees(window: int, order: Any) -> str:
        side = setting.size(48, 9)
        np.testing.assert_array_equal(made(cuda, side, window, order), made(cpu, side, window, order))
        return f"{side}² from {sample.shape[0]}²"

    for window, order in itertools.product((5, setting.size(11, 3)), ("scanline", "outward")):
        setting.check(f"scanline, window {window}, {order}", partial(agrees, window, order))
    wait = waiting()
    for side, window in [(128, 11), (256, 11), (128, 21)][: setting.size(3, 1)]:
        side, window = setting.size(side, 8), setting.size(window, 5)
        setting.attempt("scanline timings", lambda side=side, window=window: setting.race(  # type: ignore[arg-type, return-value]
            partial(made, cuda, side, window, "scanline"),
            {"our kernel on the CPU, all cores": partial(made, cpu, side, window, "scanline")},
            case=f"scanline, {side}² from {sample.shape[0]}² in colour, window {window}", unit="pixels/s",
            work=side * side - 25, wait=wait,
        ) and None)  # fmt: skip


def small(setting: Setting) -> None:
    """Masks, index tables and the k largest."""
    import cupy
    import torch

    from sightline_kernels.masks import cpu as masks_cpu
    from sightline_kernels.masks import cuda as masks
    from sightline_kernels.masks import reference as masks_reference
    from sightline_kernels.topk import cuda as topk
    from sightline_kernels.topk import reference as topk_reference
    from sightline_kernels.window_index import cuda as tables
    from sightline_kernels.window_index import reference as tables_reference

    random, wait = np.random.default_rng(0), waiting()
    side, count = setting.size(224, 12), setting.size(256, 3)
    image, fill = random.standard_normal((3, side, side), dtype=np.float32), np.zeros((3, 1, 1), np.float32)

    def agree_masks() -> str:
        uniform = masks_reference.draw(5, 2, 16, 7)
        np.testing.assert_array_equal(cupy.asnumpy(masks.draw(5, 2, 16, 7)), uniform)
        copies = [np.empty((16, 3, side, side), np.float32) for _ in range(2)]
        sums = [(np.zeros((side, side)), np.zeros((side, side))) for _ in range(2)]
        scores = random.standard_normal(16)
        for form, made, (total, squares) in zip((masks_reference, masks), copies, sums, strict=True):
            form.blend(image, fill, uniform, 7, 0.5, made)
            form.accumulate(scores, uniform, 7, 0.5, total, squares)
        np.testing.assert_array_equal(copies[1], copies[0])
        np.testing.assert_allclose(sums[1], sums[0], rtol=1e-5, atol=1e-6)
        return "the same bits"

    def agree_topk() -> str:
        values = np.round(random.standard_normal((7, setting.size(100_003, 301))), 2).astype(np.float32)
        for k in (1, 10, setting.size(1000, 100)):
            for found, expected in zip(topk.topk(values, k), topk_reference.topk(values, k), strict=True):
                np.testing.assert_array_equal(found, expected)
        return "k = 1 to 1,000, many ties"

    def agree_tables() -> str:
        n = setting.size(600, 5)
        given = (
            (random.integers(-4, 58, n), random.integers(-4, 58, n)), (9, 11),
            (random.integers(0, 50, n), random.integers(0, 50, n)), (5, 6), (56, 56), (0, 56), 3136, 3138,
        )  # fmt: skip
        found = cupy.asnumpy(tables.window_index(*given))
        np.testing.assert_array_equal(found, tables_reference.window_index(*given))
        return f"{n} windows"

    setting.check("masks", agree_masks)
    setting.check("topk", agree_topk)
    setting.check("window_index", agree_tables)

    def time_masks() -> None:
        on_device = [cupy.asarray(one) for one in (image, np.broadcast_to(fill, image.shape).copy())]
        numbers, out = masks.draw(0, 0, count, 7), cupy.empty((count, 3, side, side), np.float32)
        uniform, held = masks_reference.draw(0, 0, count, 7), np.empty((count, 3, side, side), np.float32)
        setting.race(
            partial(masks.blend, *on_device, numbers, 7, 0.5, out),
            {"our kernel on the CPU, all cores": partial(masks_cpu.blend, image, fill, uniform, 7, 0.5, held)},
            case=f"masks, {count} of {side}² laid over an image, left on the device", unit="masks/s", work=count,
            wait=wait,
        )  # fmt: skip

    def time_topk() -> None:
        for rows, columns, k in [(256, 100_000, 10), (256, 100_000, 100), (16, 1_000_000, 100)]:
            rows, columns = setting.size(rows, 2), setting.size(columns, 300)
            values = torch.randn(rows, columns, device=setting.device)
            setting.race(
                partial(topk.topk_on_device, shared(setting, values), k),
                {"torch.topk": partial(torch.topk, values, k, dim=1)},
                case=f"topk, {rows} x {columns:,}, k = {k}", unit="rows/s", work=rows, wait=wait,
            )  # fmt: skip

    setting.attempt("masks timings", time_masks)
    setting.attempt("topk timings", time_topk)
