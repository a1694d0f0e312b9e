"""Text from data, such as names and configs, put safely into pages, Markdown, terminals and plots.

HTML comes from the templates in `web/` alone, which escape whatever they are given. A page is one file: style, script,
data and pictures are in it, and a browser asks no network for anything.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

if TYPE_CHECKING:
    from rich.text import Text

WEB = Path(__file__).parent / "web"
"""Templates, style sheets and scripts of the pages."""


def printable(value: object) -> str:
    """One line of text in which control characters, and those that turn the reading direction, are written out.

    >>> print(printable("red: \\x1b[31m, newline: \\n"))
    red: \\x1b[31m, newline: \\n
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text)


def render(template: str, **values: Any) -> str:
    """A page: the template `web/<template>` with text values escaped.

    Raises:
        jinja2.UndefinedError: if the template asks for a value that is not there.
    """
    return _TEMPLATES.get_template(template).render(**values)


def data_url(content: bytes, kind: str) -> str:
    """A picture as an address, e.g. of kind `image/png`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def slug(value: str) -> str:
    """Text as part of a file's name or an anchor.

    >>> slug("HRMSudoku-v0:box=(2, 3)")
    'HRMSudoku-v0-box-2-3'
    """
    return re.sub(r"[^\w.-]+", "-", value).strip("-")


def markdown_text(value: object) -> str:
    r"""Text that Markdown shows as it is; in a table `markdown_row` sees to the bars.

    >>> print(markdown_text("<b>*x*</b> a|b x86_64"))
    \<b>\*x\*\</b> a|b x86_64
    """
    # An underscore within a word is none of Markdown's.
    return re.sub(r"([\\`*{}\[\]<#~$&]|(?<!\w)_|_(?!\w))", r"\\\1", printable(value))


def markdown_code(value: object) -> str:
    """Text as a code span, whatever backquotes are in it.

    >>> print(markdown_code("a`b"))
    `` a`b ``
    """
    text = printable(value)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, room = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{room}{text}{room}{fence}"


def markdown_row(cells: list[str]) -> str:
    """A line of a Markdown table; the cells are Markdown."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def plot_text(value: object, longest: int = 60) -> str:
    """Text that matplotlib draws as it is: not as a formula, nor left out of a legend for a leading underscore.

    Of texts with more than `longest` characters, which would leave a picture no room, the middle is left out.
    """
    text = printable(value)
    text = (text if len(text) <= longest else f"{text[: longest // 2]}…{text[-longest // 2 :]}").replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def show(content: object, width: int = 140) -> None:
    """Print a rich table or text on stdout: strings in it are shown as they are, without reading markup in them.

    Args:
        content: what rich prints, or a string.
        width: columns on a pipe; a terminal has its own.
    """
    from rich.console import Console

    class Plain(Console):
        def render_str(self, text: str, **kwargs: Any) -> Text:
            """Text as it is."""
            lines = "\n".join(map(printable, text.split("\n")))
            return super().render_str(lines, **{**kwargs, "markup": False, "emoji": False})

    console = Plain()
    (console if console.is_terminal else Plain(width=width)).print(content)


def table_text(value: object, style: str = "") -> Text:
    """Text that rich shows as it is, without reading markup in it."""
    from rich.text import Text

    return Text(printable(value), style=style)


def _page_value(value: Any) -> Any:
    # Lone surrogates, which file names may have, cannot be written as UTF-8 once all the work is done.
    return printable(value) if type(value) is str else value


_TEMPLATES = Environment(
    loader=FileSystemLoader(WEB),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_page_value,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
_TEMPLATES.filters["slug"] = slug
_TEMPLATES.globals["asset"] = lambda name: Markup((WEB / name).read_text(encoding="utf-8"))  # our own files
