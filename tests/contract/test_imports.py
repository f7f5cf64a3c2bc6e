"""Who may import what, read from the sources; and what a forward-only call may bring in, seen in a fresh process."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from problems import convolutional

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "sightline": ROOT / "engine/sightline",
    "sightline_kernels": ROOT / "kernels/sightline_kernels",
    "sightline_exporters": ROOT / "exporters/sightline_exporters",
}
SOURCES = {path.relative_to(ROOT).as_posix(): path for folder in PACKAGES.values() for path in folder.rglob("*.py")}
EXPORTERS = "exporters/*"
# Library: the files that may speak to it, by pattern.
SPEAKERS = {
    "onnxruntime": (
        "engine/sightline/routes/sessions.py",
        "exporters/sightline_exporters/parity.py",
        "exporters/sightline_exporters/variants.py",
    ),
    "torch": (
        "engine/sightline/twin/*",
        "engine/sightline/routes/autograd.py",
        "engine/sightline/methods/gradient/*",
        "engine/sightline/ascent/*",
        "engine/sightline/demo/train.py",
        "engine/sightline/styles/training/*",
        EXPORTERS,
    ),
    "torchvision": (EXPORTERS,),
    "timm": (EXPORTERS,),
    "onnxscript": (EXPORTERS,),
    "safetensors": (EXPORTERS,),
    "numba": ("kernels/*/cpu.py",),
    "cupy": ("kernels/*/cuda.py",),
    "ray": ("engine/sightline/job/ray.py",),
}
# Package: those of ours that it may know.
KNOWS = {
    "sightline": set(PACKAGES),
    "sightline_kernels": {"sightline_kernels"},
    "sightline_exporters": {"sightline_exporters"},
}


def imported(path: Path, *, typing_too: bool = True) -> Iterator[str]:
    """Dotted names of every module that a file imports, anywhere in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = set() if typing_too else {
        id(inner)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        for inner in ast.walk(statement)
    }  # fmt: skip
    for found in ast.walk(tree):
        if id(found) in skipped:
            continue
        if isinstance(found, ast.Import):
            yield from (alias.name for alias in found.names)
        elif isinstance(found, ast.ImportFrom):
            yield "." * found.level + (found.module or "")
        elif isinstance(found, ast.Call) and ast.unparse(found.func).endswith("import_module") and found.args:
            argument = found.args[0]
            if isinstance(argument, ast.Constant):
                yield str(argument.value)


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 60
    assert "onnxruntime" in set(imported(SOURCES["engine/sightline/routes/sessions.py"]))


def violations(breaks: Callable[[str, str], bool], *, typing_too: bool = True) -> list[str]:
    """Imports that break a rule, told by file and module."""
    return [
        f"{name} imports {module}"
        for name, path in sorted(SOURCES.items())
        for module in imported(path, typing_too=typing_too)
        if breaks(name, module)
    ]


def test_libraries_are_spoken_to_only_where_they_may_be() -> None:
    """Types that vanish at run time bind nobody; everything else does, imports inside functions too."""

    def breaks(name: str, module: str) -> bool:
        allowed = SPEAKERS.get(module.partition(".")[0])
        return allowed is not None and not any(fnmatch(name, pattern) for pattern in allowed)

    assert violations(breaks, typing_too=False) == []


def test_packages_know_each_other_one_way() -> None:
    def breaks(name: str, module: str) -> bool:
        head = module.partition(".")[0]
        return head in PACKAGES and head not in KNOWS[Path(name).parts[1]]

    assert violations(breaks) == []


def test_imports_are_absolute() -> None:
    assert violations(lambda _, module: module.startswith(".")) == []


def test_nothing_imports_the_command_line() -> None:
    ends = ("engine/sightline/cli.py", "engine/sightline/__main__.py")

    def breaks(name: str, module: str) -> bool:
        inside = name in ends or name.startswith("engine/sightline/commands/")
        return not inside and module.startswith(("sightline.cli", "sightline.commands"))

    assert violations(breaks) == []


def test_methods_ask_for_abilities_never_for_a_backend() -> None:
    backends = ("sightline.routes", "sightline.twin", "sightline.model", "sightline.dispatch")
    assert violations(lambda name, module: "/methods/" in name and module.startswith(backends)) == []


def test_only_its_route_and_itself_speak_to_the_twin() -> None:
    places = ("engine/sightline/twin/", "engine/sightline/routes/autograd.py")
    assert (
        violations(lambda n, m: m.startswith("sightline.twin") and not n.startswith(places), typing_too=False) == []
    )


FORBIDDEN = ("torch", "torchvision", "timm", "numba", "cupy", "ray", "sightline.twin", "sightline_exporters")


def loaded_after(statements: str) -> list[str]:
    """Which of the forbidden modules a fresh process holds after some statements."""
    code = f"{statements}\nimport sys\nprint('LOADED', *[m for m in {FORBIDDEN!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("LOADED")]
    return line.split()[1:]


def test_importing_and_helping_start_without_torch() -> None:
    calls = (["--help"], ["methods"], ["plan", "occlusion", "--help"], ["doctor"])
    lines = ["import sightline", "sightline.load, sightline.top, sightline.Occlusion"]
    lines += ["from sightline.cli import call", *(f"assert call({tokens!r}) == 0" for tokens in calls)]
    assert loaded_after("\n".join(lines)) == []


def test_forward_only_commands_run_without_torch(tmp_path: Path, noise_folder: Path) -> None:
    model = convolutional("net").save(tmp_path)
    plain = ["--mean", "0,0,0", "--std", "1,1,1"]
    lines = ["from sightline.cli import call"]
    lines.append(f"assert call(['plan', 'occlusion', {str(model)!r}]) == 0")
    lines.append(f"assert call(['run', 'filters', {str(model)!r}, '-o', {str(tmp_path / 'filters')!r}]) == 0")
    for method, *flags in (["predict"], ["occlusion", "--window", "3", "--stride", "2"], ["activation_map"]):
        call = ["run", method, str(model), str(noise_folder), "-o", str(tmp_path / method), *plain, *flags]
        lines.append(f"assert call({call!r}) == 0")
    assert loaded_after("\n".join(lines)) == [], "no kernel is compiled for so little work"
