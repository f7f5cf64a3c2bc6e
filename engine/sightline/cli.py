"""The command line: one file per command in ``commands/``, found by name and imported when it is called."""

from __future__ import annotations

import ast
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import cyclopts

from sightline import __version__
from sightline.errors import SightlineError

COMMANDS = Path(__file__).parent / "commands"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code.

    0 done, 1 a gate failed, 2 usage, 3 could not run, 4 inputs set aside, 130 stopped by Ctrl-C or a limit.
    """
    sys.exit(call(list(sys.argv[1:] if arguments is None else arguments)))


def call(tokens: list[str]) -> int:
    """Run one command and return its exit code; a user's mistake is printed without a traceback."""
    debug = "--debug" in tokens
    tokens = [token for token in tokens if token != "--debug"]
    try:
        code = make_app()(tokens or ["--help"], exit_on_error=False, print_error=False)
        return code if isinstance(code, int) else 0
    except cyclopts.CycloptsError as reason:
        return _fail(f"{reason}\nSee sightline {' '.join(_words(tokens))} --help.", 2, debug)
    except SightlineError as reason:
        return _fail(str(reason), reason.exit_code, debug)
    except KeyboardInterrupt:
        return _fail("Stopped. What was committed is safe; --resume goes on.", 130, debug)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has left; nothing more can be said to them
        return 0
    except Exception as reason:
        if _from_exporters(reason):
            return _fail(str(reason), int(getattr(reason, "exit_code", 3)), debug)
        traceback.print_exc()
        return _fail(
            f"This is a fault of sightline {__version__}, not of the call. Please report the lines above.", 3
        )


def make_app() -> cyclopts.App:
    """The application, with every command known by its file's name and first docstring line."""
    app = cyclopts.App(
        name="sightline",
        help="See what a convolutional network looks at: exact, batched attribution of ONNX models.",
        version=__version__,
        result_action="return_value",
        help_format="plaintext",
    )
    for path in sorted(COMMANDS.glob("[!_]*.py")):
        summary = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
        name = path.stem
        app.command(f"sightline.commands.{name}:{name}", name=name, help=summary)
    return app


def _words(tokens: Sequence[str]) -> list[str]:
    """The command and, for run and plan, its method: what --help can be asked of."""
    words = [token for token in tokens[:2] if not token.startswith("-")]
    return words[:2] if words[:1] in (["run"], ["plan"]) else words[:1]


def _from_exporters(reason: Exception) -> bool:
    return any(base.__name__ == "ExporterError" for base in type(reason).__mro__)


def _fail(message: str, code: int, debug: bool = False) -> int:
    if debug:
        traceback.print_exc()
    print(f"sightline: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
