"""Bundled weights, a folder each: safetensors, the JSON that rebuilds the agent, and a card. Finding those that fit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def bundled(kind: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folders of bundled weights of one kind ("hrm", "ppo", …), each with its JSON, in the order of their names."""
    for config in sorted(FOLDER.glob("*/config.json")):
        about = json.loads(config.read_text())
        if about.get("kind") == kind:
            yield config.parent, about


def describe(kind: str) -> str:
    """What is bundled of one kind, for an error message."""
    return ", ".join(folder.name for folder, _ in bundled(kind)) or "none"
