"""Text from data cannot run in a page, break a table or a plot, or command a terminal."""

from __future__ import annotations

import html
import io
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import Console

from hrm_gym.evaluation.compare.page import compare_page, curves_chart, markdown, solved_chart, terminal_table
from hrm_gym.evaluation.compare.rows import Curve, Figure, Row, Run, Training
from hrm_gym.evaluation.pages import markdown_code, markdown_row, markdown_text, plot_text, printable, render
from hrm_gym.evaluation.scores import Score, to_table

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><script>alert(1)</script>",
    "[/bold] [red]x[/] [link=http://x]y[/link]",
    r"$\frac{$",
    "$x$ and $",
    "_hidden",
    "a|b`c``d",
    "\x1b]0;title\x07 \x1b[31mred\x1b[2J",
    "a\nb\r\n| c |",
    "left \u202e right",
    "surrogate \udc80",
    "{{ 7 * 7 }} {% raw %}",
    "trailing \\",
]


def rows_named(name: str) -> list[Row]:
    """An agent and a world whose every text is `name`."""
    figure = Figure(0.5, 0.4, 0.6)
    training = Training(steps=7, seconds=90.0, command=name, recipe={"note": name})
    runs = (Run(name, name, training, Curve((0.0, 2.0), (0.1, 0.9)), 0.5),)
    names = ("solved", "exact", "cell_accuracy", "total_return", "actions", "milliseconds")
    figures = {field: figure for field in names}
    plays = Row(name, name, "", "answer", name, 10, **figures, parameters=9, runs=runs, puzzles_sha256="ab" * 32)
    return [plays, Row(name, f"absent {name}", absent=name)]


class Elements(HTMLParser):
    """The elements of a page and their attributes; of a picture only the outermost, as its marks depend on its text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.in_picture = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not self.in_picture or tag in ("script", "img", "a"):
            self.found.append((tag, dict(attrs)))
        self.in_picture |= tag == "svg"

    def handle_endtag(self, tag: str) -> None:
        self.in_picture &= tag != "svg"


def elements(page: str) -> list[str]:
    """The names of a page's elements in order; no attribute may be a handler of events."""
    parser = Elements()
    parser.feed(page)
    assert not [(tag, name) for tag, attrs in parser.found for name in attrs if name.startswith("on")]
    return [tag for tag, _ in parser.found]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_page_has_the_same_elements_whatever_stands_in_its_data(name: str) -> None:
    def page(text: str) -> str:
        about = {"title": text, "command": text, "facts": {text: text}}
        return compare_page(about, rows_named(text), {}, {text: text})

    written = page(name)
    written.encode("utf-8")
    assert "\x1b" not in written
    assert elements(written) == elements(page("plain"))


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_markdown_keeps_its_tables_and_holds_no_html(name: str) -> None:
    def lines(text: str) -> list[str]:
        about = {"title": text, "command": text, "facts": {text: text}}
        return markdown(about, rows_named(text)).splitlines()

    def cells(line: str) -> int:
        return len(re.findall(r"(?<!\\)\|", line))

    assert [cells(line) for line in lines(name) if line.startswith("|")] == [
        cells(line) for line in lines("plain") if line.startswith("|")
    ]
    spans = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
    outside = "\n".join(spans.sub("", line) for line in lines(name))
    assert not re.search(r"(?<!\\)<", outside)
    assert "\x1b" not in outside


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_tables_of_a_terminal_show_markup_and_obey_nothing(name: str) -> None:
    score = Score(name, name, 3, 1, 1, 1, 1, 1, 1, None, 1.0, 2.0, 2.0, 1.0, None, halting_rules=name)
    for table in (to_table([score]), to_table([score, Score(name, "x", *[1] * 12)]), terminal_table(rows_named(name))):
        console = Console(width=400, file=io.StringIO(), record=True, color_system=None)
        console.print(table)
        text = console.export_text()
        assert printable(name).strip()[:60] in text
        assert "\x1b" not in text
        text.encode("utf-8")


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_plots_show_formulas_as_text(name: str) -> None:
    rows = rows_named(name)
    for drawn in (solved_chart(rows, [row.agent for row in rows]), curves_chart(rows, [row.agent for row in rows])):
        assert drawn is not None
        assert elements(drawn) == ["svg"]
        shown = html.unescape("".join(re.findall(r"<text[^>]*>([^<]*)</text>", drawn)))
        assert printable(name).replace(" ", "") in shown.replace(" ", "")


def test_what_the_helpers_write() -> None:
    assert printable("plain é 数") == "plain é 数"
    assert printable("\x1b[1m\n") == r"\x1b[1m\n"
    assert markdown_text("x86_64 *a* [b](c)") == r"x86_64 \*a\* \[b\](c)"
    assert markdown_code("a``b") == "``` a``b ```"
    assert markdown_row(["a|b", "`c|d`"]) == r"| a\|b | `c\|d` |"
    assert plot_text("$x$") == r"\$x\$"


def test_a_template_that_asks_for_what_is_not_there_fails() -> None:
    with pytest.raises(Exception, match="title"):
        render("page.html", data={})


def test_values_are_data_not_templates() -> None:
    page: Any = render("page.html", title="{{ 7 * 7 }}", data=None)
    assert "<title>{{ 7 * 7 }}</title>" in page
