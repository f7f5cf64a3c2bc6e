"""From torch to ONNX, with the agreement of both measured before anything is written.

Importing this package imports no torch; its names do, when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sightline_exporters.errors import ExporterError

if TYPE_CHECKING:
    from sightline_exporters.onnx_file import Export, export

__all__ = ["Export", "ExporterError", "export"]


def __getattr__(name: str) -> Any:
    if name not in ("Export", "export"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from sightline_exporters import onnx_file
    except ModuleNotFoundError as reason:
        from sightline_exporters.errors import MissingExtra

        raise MissingExtra(
            f"Exporting needs the package {reason.name!r}, which is not installed. "
            "Install the extras 'torch' and 'cpu': pip install 'sightline[torch,cpu]'."
        ) from reason
    return getattr(onnx_file, name)
