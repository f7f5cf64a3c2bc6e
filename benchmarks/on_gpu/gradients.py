"""The torch twin on the device: gradients and ascents."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from on_gpu.kernels import set_tf32
from on_gpu.setting import Setting
from on_gpu.subjects import Subject, layouts, near, sizes_that_fit, subject, titles, waiting


def gradients(setting: Setting) -> None:
    """Saliency and integrated gradients: parity with the CPU, then images per second beside Captum."""
    for title in titles(setting):
        setting.attempt(f"gradients, {title}", partial(_gradients, setting, title))


def _gradients(setting: Setting, title: str) -> None:
    from sightline.methods.gradient.integrated_gradients import IntegratedGradients
    from sightline.methods.gradient.saliency import Saliency
    from sightline.target import logit

    found, wait = subject(setting, title), waiting(setting)
    count, steps = setting.size(64, 3), setting.size(50, 4)
    images = found.images(count)
    index = found.highest(images)
    few = images[:2]
    jobs = {"saliency": (Saliency(), images, count), f"integrated gradients, {steps} steps": (
        IntegratedGradients(steps=steps), found.images(1), 1)}  # fmt: skip
    for name, (method, given, work) in jobs.items():
        exact = found.model.plan(method).run(few, logit(index)).values
        plan = found.model.plan(method, device=setting.device, memory=16 << 30)
        if not setting.check(f"{name} of {title}", partial(correlated, plan, few, logit(index), exact)):
            continue
        peers = gradient_peers(setting, found, name, given, index, steps)
        case = f"{name}, {found.title}, {found.side}²"
        exactly = {who: call for who, call in peers.items() if who.endswith("fp32")}
        setting.race(
            partial(plan.run, given, logit(index)), exactly, case=f"{case}, fp32 against fp32", unit="images/s",
            work=work, wait=wait,
        )  # fmt: skip
        for precision in ("tf32", "bf16"):
            quick = found.model.plan(method, device=setting.device, memory=16 << 30, precision=precision)
            setting.check(
                f"{name} of {title}, {precision}", partial(correlated, quick, few, logit(index), exact, 0.95)
            )
            setting.race(
                partial(quick.run, given, logit(index)), peers, case=f"{case}, {precision}", unit="images/s",
                work=work, wait=wait,
            )  # fmt: skip


def correlated(plan: Any, images: Any, target: Any, expected: Any, least: float = 0.999) -> str:
    """How alike maps are; an error if they are not."""
    found = plan.run(images, target).values
    alike = float(np.corrcoef(found.ravel(), expected.ravel())[0, 1])
    if not alike >= least:
        raise AssertionError(f"correlated by {alike:.5f} only")
    return f"correlated by {alike:.6f}"


def gradient_peers(
    setting: Setting, found: Subject, name: str, images: Any, index: int, steps: int
) -> dict[str, Any]:
    """Captum at every batch size and setting of TF32 that fits, or plain autograd where it is not there."""
    import torch

    try:
        import captum.attr as captum
    except ImportError:
        captum = None
    tensor, path = torch.from_numpy(images.tensor), name.startswith("integrated")

    def run(module: Any, layout: Any, tf32: bool, size: int) -> Any:
        set_tf32(tf32)
        maps: list[Any] = []
        for start in range(0, len(tensor), size):
            leaf = tensor[start : start + size].to(setting.device).contiguous(memory_format=layout).requires_grad_()
            if captum is not None and path:
                one = captum.IntegratedGradients(module).attribute(
                    leaf, target=index, n_steps=steps, internal_batch_size=size
                )
            elif captum is not None:
                one = captum.Saliency(module).attribute(leaf, target=index)
            elif path:
                one = eager_path(module, leaf.detach(), index, steps, size)
            else:
                (one,) = torch.autograd.grad(module(leaf)[:, index].sum(), leaf)
            maps.append(one.detach().cpu())
        return torch.cat(maps)

    who, peers = "torch" if captum is None else "captum", dict[str, Any]()
    for arranged, (module, layout) in layouts(setting, found.module).items():
        for tf32 in (False, True):
            call = partial(run, module, layout, tf32)
            for size in sizes_that_fit(call, (16, 50 if path else 64) if not setting.dry else (2,)):
                peers[f"{who}, {size} per run{arranged}, {'TF32' if tf32 else 'fp32'}"] = partial(call, size)
    return peers


def eager_path(module: Any, image: Any, index: int, steps: int, size: int) -> Any:
    """Integrated gradients of one image from zero."""
    import torch

    total = torch.zeros_like(image)
    parts = ((torch.arange(steps, device=image.device) + 0.5) / steps).split(size)
    for part in parts:
        leaf = (part[:, None, None, None] * image).requires_grad_()
        (slope,) = torch.autograd.grad(module(leaf)[:, index].sum(), leaf)
        total += slope.sum(0, keepdim=True)
    return total * image / steps


def ascent(setting: Setting) -> None:
    """Gradient ascent with captured runs and without: the same pictures, steps per second."""
    title = "SqueezeNet 1.0"
    found, wait = subject(setting, title), waiting(setting)
    steps, count = setting.size(64, 3), setting.size(4, 2)
    from sightline.ascent.loop import Ascent
    from sightline.ascent.parametrisation import Bounds, Pixels
    from sightline.routes.autograd import ROUTE
    from sightline.routes.base import Settings
    from sightline.target import logit

    def pictures(graphs: bool) -> Any:
        import torch

        device: Any = setting.device
        oracle: Any = ROUTE.open(found.model, Settings(device, cuda_graphs=graphs and not setting.dry))

        def climb() -> Any:
            with oracle.tape() as tape:
                start = tape.tensor(found.images(count).tensor)
                pixels = Pixels(start, Bounds.of(found.model.preprocess, start.device))
                run = Ascent(steps=steps, rate=0.01)
                return run.climb(lambda one: tape(one, logit(1)).logits[:, 1], pixels, list(range(count))).images

        assert torch.is_grad_enabled()
        return climb

    plain, captured = pictures(False), pictures(True)
    setting.check("ascent with CUDA graphs", partial(near, captured, plain(), 1e-2))
    setting.race(
        captured, {"the same, launched kernel by kernel": plain}, unit="steps/s", work=steps * count, wait=wait,
        case=f"ascent of {count} pictures, {found.title}, {found.side}², CUDA graphs",
    )  # fmt: skip
