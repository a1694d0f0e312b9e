"""Environments as text on a command line: `ID` or `ID:argument=value,argument=value`."""

from __future__ import annotations

import ast
import re
from typing import Any


def read_env(label: str) -> tuple[str, dict[str, Any]]:
    """The id and the constructor arguments of `ID` or `ID:argument=value,…`.

    >>> read_env("HRMSudokuMini-v0:box=(2,3),max_segments=8")
    ('HRMSudokuMini-v0', {'box': (2, 3), 'max_segments': 8})

    Raises:
        ValueError: the text has another form.
    """
    env_id, _, rest = label.partition(":")
    return env_id, read_arguments(rest, f"an environment as ID or ID:argument=value,…, got {label!r}")


def read_arguments(text: str, expected: str = "") -> dict[str, Any]:
    """Constructor arguments of `argument=value,…`; values are Python literals, or text where they are none.

    >>> read_arguments("size=12,source=generate,box=(2,3)")
    {'size': 12, 'source': 'generate', 'box': (2, 3)}

    Args:
        text: the arguments.
        expected: what an error says that it expected and got; by default the text itself.

    Raises:
        ValueError: the text has another form.
    """
    found: dict[str, Any] = {}
    for part in re.split(r",(?![^()\[\]{}]*[)\]}])", text):
        name, equals, value = part.strip().partition("=")
        if not part.strip():
            continue
        if not equals or not name.strip().isidentifier():
            raise ValueError(f"expected {expected or f'arguments as name=value,name=value, got {text!r}'}: {part!r}")
        found[name.strip()] = _value(value.strip())
    return found


def _value(written: str) -> Any:
    try:
        return ast.literal_eval(written)
    except (ValueError, SyntaxError):
        return written
