"""Self-contained HTML pages: style, script, data and pictures in one file; a browser asks no network for anything."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WEB = Path(__file__).parent / "web"
"""Style sheets and scripts that pages are made with."""


def page(title: str, body: str, styles: Sequence[str] = (), scripts: Sequence[str] = (), data: Any = None) -> str:
    """A whole page.

    Args:
        title: plain text.
        body: HTML.
        styles: names of files in `web/`, after `page.css`.
        scripts: names of files in `web/`; they run when the page is there.
        data: what the scripts find as JSON in the element `data`.
    """
    style = "\n".join((WEB / name).read_text(encoding="utf-8") for name in ("page.css", *styles))
    script = "\n".join((WEB / name).read_text(encoding="utf-8") for name in scripts)
    held = "" if data is None else f'<script type="application/json" id="data">{safe_json(data)}</script>\n'
    run = f"<script>\n{script}</script>\n" if scripts else ""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n{held}{run}</body>\n</html>\n"
    )


def text(value: object) -> str:
    """Plain text as HTML."""
    return html.escape(str(value))


def safe_json(data: Any) -> str:
    """JSON that may stand inside a script element, whatever is in it."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def data_url(content: bytes, kind: str) -> str:
    """A picture as an address, e.g. of kind `image/png`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def scrolling(inner: str, label: str) -> str:
    """A box around something wide that scrolls by itself; it can be reached by keyboard."""
    return f'<div class="box" tabindex="0" role="region" aria-label="{text(label)}">{inner}</div>'


def slug(value: str) -> str:
    """Text as part of a file's name or an anchor.

    >>> slug("HRMSudoku-v0:box=(2, 3)")
    'HRMSudoku-v0-box-2-3'
    """
    return re.sub(r"[^\w.-]+", "-", value).strip("-")
