"""Packages that few need: which extra of the installation brings them, and one line where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

EXTRAS = {
    "matplotlib": "plots",
    "imageio": "films",
    "imageio_ffmpeg": "films",
    "moviepy": "films",
    "tensorboard": "tensorboard",
    "minari": "minari",
    "IPython": "notebook",
    "onnx": "web",
    "ray": "ray",
    "submitit": "slurm",
    "onnxscript": "web",
    "onnxruntime": "web",
}
"""The extra that brings a package."""


def load_extra(package: str) -> Any:
    """The module of an optional package.

    Raises:
        ValueError: it is not installed, or does not import; names the extra that brings it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ValueError(explain(error) or f"{package} does not import: {error}") from error


def explain(error: ImportError) -> str | None:
    """The line for an optional package that is missing; None where something else is."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    return f"this needs {package}, which is not installed: pip install 'hrm-gym[{EXTRAS[package]}]'"
