"""Networks on ONNX Runtime's CUDA provider: forward passes, sweeps, styles, TensorRT."""

from __future__ import annotations

import copy
import itertools
from functools import partial
from typing import Any

import numpy as np

from on_gpu.kernels import set_tf32
from on_gpu.setting import Setting
from on_gpu.subjects import Subject, layouts, near, predict, sizes_that_fit, subject, titles, waiting

PER_RUN = (16, 64, 256)  # perturbations or images that a peer gets at once; its best counts


def rate(setting: Setting) -> None:
    """What the chip multiplies at: the measure that passes of networks are shares of."""
    import torch

    side, wait = setting.size(8192, 64), waiting(setting)
    for name, dtype, tf32 in [
        ("fp32", torch.float32, False), ("TF32", torch.float32, True), ("fp16", torch.float16, False),
        ("bf16", torch.bfloat16, False),
    ]:  # fmt: skip
        set_tf32(tf32)
        one, other = (torch.randn(side, side, device=setting.device).to(dtype) for _ in range(2))
        setting.race(
            partial(torch.matmul, one, other), {}, case=f"matrix product, {side}, {name}", unit="TFLOP/s",
            work=2 * side**3 / 1e12, wait=wait,
        )  # fmt: skip
    set_tf32(False)


def provider(setting: Setting) -> None:
    """That ONNX Runtime's CUDA provider starts, where nodes run, and that its numbers are the CPU's."""
    from sightline.routes import sessions
    from sightline.routes.base import Settings

    made: Any = Settings(setting.device)

    def starts() -> str:
        reasons = sessions.provider_obstacles(made.device)
        if reasons:
            raise RuntimeError(" ".join(reasons))
        return f"{sessions.installed_runtimes()}"

    if not setting.check("CUDA provider", starts):
        raise RuntimeError("no CUDA provider, so nothing of this part can run")


def forward(setting: Setting) -> None:
    """Class scores: parity, then images per second beside torch in eager mode, in the same precision."""
    import torch

    provider(setting)
    for title in titles(setting):
        setting.attempt(f"forward, {title}", partial(_forward, setting, title, torch))


def _forward(setting: Setting, title: str, torch: Any) -> None:
    from sightline.model import load
    from sightline.routes import ort, sessions
    from sightline.routes.base import Settings
    from sightline_exporters.variants import to_half

    found, batch, wait = subject(setting, title), setting.size(128, 4), waiting(setting)
    images = found.images(batch)
    exact = ort.OrtOracle(found.model, Settings()).logits(images.tensor[:8])
    device: Any = setting.device
    half = to_half(found.model.path, setting.folder / f"{found.model.path.stem}.fp16.onnx")
    with load(half, preset="imagenet", size=(found.side, found.side)) as halved:
        models = {"fp32": (found.model, 1e-4), "tf32": (found.model, 1e-2), "fp16": (halved, 2e-2)}
        for name, (model, tolerance) in models.items():
            if setting.dry and name == "fp16":
                continue
            chosen: Any = "tf32" if name == "tf32" else "fp32"
            oracle = ort.OrtOracle(model, Settings(device, batch=batch, memory=16 << 30, precision=chosen))
            few = partial(oracle.logits, images.tensor[:8])
            setting.check(f"scores of {title}, {name}", partial(near, few, exact, tolerance))
            if not setting.dry:
                session = sessions.open_session(model, (model.logits_name,), Settings(device))
                counts = {where: kinds.total() for where, kinds in sessions.placement(session).items()}
                setting.emit("note", name=f"nodes of {title}, {name}", note=str(counts))
            tensor, peers = torch.from_numpy(images.tensor), {}
            for arranged, (module, layout) in layouts(setting, found.module).items():
                dtype = torch.float16 if name == "fp16" else torch.float32
                peers[f"torch eager{arranged}, {'TF32' if name == 'tf32' else name}"] = partial(
                    by_torch, module.to(dtype), tensor, layout, dtype, setting.device, name == "tf32"
                )
            case = f"forward, {found.title}, {found.side}², {batch} at once, from and to the host, {name}"
            setting.race(
                partial(oracle.logits, images.tensor), peers, case=case, unit="images/s", work=batch, wait=wait
            )  # fmt: skip
            passes = oracle.trial()  # images lie on the device
            setting.race(
                partial(passes, batch), {}, case=f"{case}, images on the device", unit="TFLOP/s",
                work=2 * model.layers.macs * batch / 1e12, wait=wait,
            )  # fmt: skip
            oracle.close()


def by_torch(module: Any, images: Any, layout: Any, dtype: Any, device: str, tf32: bool) -> Any:
    """Scores on the host."""
    import torch

    set_tf32(tf32)
    with torch.inference_mode():
        return module(images.to(device).to(dtype).contiguous(memory_format=layout)).float().cpu().numpy()


def occlusion(setting: Setting) -> None:
    """Window sweeps, dense and incremental: parity with the CPU, then windows per second beside eager sweeps.

    Each in fp32 and in TF32, beside sweeps in the same.
    """
    provider(setting)
    for title in titles(setting):
        setting.attempt(f"occlusion, {title}", partial(_occlusion, setting, title))


def _occlusion(setting: Setting, title: str) -> None:
    from sightline.methods.forward.occlusion import Occlusion
    from sightline.precision import TOLERANCES
    from sightline.routes import ort
    from sightline.routes.base import Settings
    from sightline.target import logit

    found, wait = subject(setting, title), waiting(setting)
    device: Any = setting.device
    window, stride, coarse = setting.size(16, 8), setting.size(8, 8), setting.size(56, 16)
    images, many = found.images(1), found.images(setting.size(8, 2))
    index = found.highest(images)
    method, few = Occlusion(window=window, stride=stride), Occlusion(window=coarse, stride=coarse)
    fill = np.zeros((1, 1, 1), np.float32)

    def oracle(sweep: Any, kind: Any, precision: Any = "fp32") -> Any:
        made = ort.OrtOracle(found.model, Settings(kind, sweep=sweep, memory=16 << 30, precision=precision))
        if setting.dry and sweep == "incremental":
            made.__dict__["bound_to"] = "cpu"
        return made

    def scores(made: Any, batch: Any, grid: Any) -> Any:
        windows = grid.windows_of(found.side, found.side)
        chunks = made.sweep(batch.tensor, windows, fill, logit(index))
        return np.concatenate([chunk.scores for chunk in chunks])

    expected = scores(oracle("dense", "cpu"), images, few)
    eager = sweeps_by_peers(setting, found, images, index, window)
    passes = len(method.windows_of(found.side, found.side))
    for sweep, precision in itertools.product(("dense", "incremental"), ("fp32", "tf32")):
        made = oracle(sweep, device, precision)
        name, tolerance = f"{sweep} sweep of {title}, {precision}", TOLERANCES[precision]
        if not setting.check(name, partial(near, partial(scores, made, images, few), expected, tolerance)):
            continue
        alike = {who: call for who, call in eager.items() if who.lower().endswith(precision)}
        for batch, peers in ((images, alike), (many, {})):
            count = len(batch)
            work = {"sightline": passes * count} | dict.fromkeys(peers, (found.side // window) ** 2)
            setting.race(
                partial(scores, made, batch, method), peers, unit="windows/s", work=work, wait=wait,
                case=f"{sweep} occlusion, {found.title}, {found.side}², window {window}, stride {stride}, "
                f"{count} image{'s' if count > 1 else ''}, {precision}",
            )  # fmt: skip
        made.close()


def sweeps_by_peers(setting: Setting, found: Subject, images: Any, index: int, window: int) -> dict[str, Any]:
    """Captum's sweeps at every batch size and setting of TF32 that fits, or a plain loop where it is not there.

    Windows lie side by side: a window costs a dense sweep the same wherever it lies.
    """
    import torch

    modules = layouts(setting, found.module)
    tensor = torch.from_numpy(images.tensor).to(setting.device)
    try:
        from captum.attr import Occlusion as CaptumOcclusion
    except ImportError:
        CaptumOcclusion = None  # noqa: N806

    def run(module: Any, layout: Any, tf32: bool, per_run: int) -> Any:
        set_tf32(tf32)
        given = tensor.contiguous(memory_format=layout)
        with torch.no_grad():
            if CaptumOcclusion is None:
                return eager_sweep(module, given, index, window, per_run)
            return CaptumOcclusion(module).attribute(
                given, sliding_window_shapes=(3, window, window), strides=(3, window, window), target=index,
                perturbations_per_eval=per_run,
            ).cpu()  # fmt: skip

    who = "captum" if CaptumOcclusion is not None else "torch, a loop over windows"
    peers: dict[str, Any] = {}
    for arranged, (module, layout) in modules.items():
        for tf32 in (False, True):
            call = partial(run, module, layout, tf32)
            for size in sizes_that_fit(call, PER_RUN if not setting.dry else (4,)):
                peers[f"{who}, {size} per run{arranged}, {'TF32' if tf32 else 'fp32'}"] = partial(call, size)
    return peers


def eager_sweep(module: Any, image: Any, index: int, window: int, per_run: int) -> Any:
    """Falls of a score, windows side by side."""
    import torch

    side, falls = image.shape[-1], []
    places = [(y, x) for y in range(0, side - window + 1, window) for x in range(0, side - window + 1, window)]
    base = module(image)[0, index]
    for start in range(0, len(places), per_run):
        some = places[start : start + per_run]
        hidden = image.repeat(len(some), 1, 1, 1)
        for row, (y, x) in enumerate(some):
            hidden[row, :, y : y + window, x : x + window] = 0
        falls.append(base - module(hidden)[:, index])
    return torch.cat(falls).cpu()


def styles(setting: Setting) -> None:
    """The network in the box that paints in one pass, at 1080p."""
    import torch

    from on_gpu.painting import by_eager, eager
    from sightline.routes.base import Settings
    from sightline.styles.style import Style
    from sightline.styles.stylist import Stylist

    provider(setting)
    height, width = setting.size(1080, 40), setting.size(1920, 56)
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    device: Any = setting.device
    stylist = Stylist(Style.read("demo"), Settings(device), tile=2048)
    module = eager().to(setting.device)

    def agrees() -> str:
        worst = int(np.abs(stylist.paint([picture])[0].astype(int) - by_eager(module, picture, False)).max())
        if worst > 2:
            raise AssertionError(f"apart by {worst} grey levels")
        return f"apart by {worst} grey levels at most"

    setting.check("fast style", agrees)
    peers = {}
    for name, layout in (("", torch.contiguous_format), (", channels last", torch.channels_last)):
        arranged = copy.deepcopy(module).to(memory_format=layout)
        for tf32 in (False, True):
            peers[f"torch eager{name}, {'TF32' if tf32 else 'fp32'}"] = partial(by_eager, arranged, picture, tf32)
    setting.race(
        partial(stylist.paint, [picture]), peers, case=f"fast style, {width} x {height}, from and to bytes",
        unit="images/s", work=1, wait=waiting(setting),
    )  # fmt: skip


def tensorrt(setting: Setting) -> None:
    """TensorRT, where it is: engines are proven when they are built, then timed beside the CUDA provider."""
    from sightline.routes import ort, sessions
    from sightline.routes.base import Settings
    from sightline.routes.tensorrt import ROUTE

    if setting.dry:
        setting.emit("skipped", name="TensorRT", note="a rehearsal has none")
        return
    import onnxruntime

    missing = sessions.missing_libraries("tensorrt", onnxruntime)
    reasons = sessions.provider_obstacles("tensorrt") + [f"{name}: {advice}" for name, advice in missing.items()]
    if reasons:
        setting.emit("skipped", name="TensorRT", note=" ".join(reasons))
        return
    found, batch = subject(setting, "ResNet-50"), 64
    images = found.images(batch)
    found.model.plan(predict(), device="tensorrt", batch=batch)
    built = ROUTE.open(found.model, Settings("tensorrt", batch=batch))
    cuda = ort.OrtOracle(found.model, Settings("cuda", batch=batch))
    expected = cuda.logits(images.tensor)
    setting.check("scores of TensorRT", partial(near, partial(built.logits, images.tensor), expected, 1e-3))
    setting.race(
        partial(built.logits, images.tensor), {"CUDA provider": partial(cuda.logits, images.tensor)},
        case=f"forward, {found.title}, {found.side}², {batch} at once, TensorRT", unit="images/s", work=batch,
        wait=waiting(setting),
    )  # fmt: skip
