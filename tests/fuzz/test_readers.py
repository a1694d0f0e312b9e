"""What fuzzing has found stays found: the corpus is read or refused, reader by reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz import readers


@pytest.mark.parametrize("name", readers.READERS)
def test_the_corpus_is_read_or_refused(name: str, tmp_path: Path) -> None:
    for content in (*readers.seeds(name), *readers.corpus(name)):
        assert (readers.finding(name, tmp_path, content), content) == (None, content)


@pytest.mark.parametrize("name", [name for name in readers.READERS if name not in ("sums", "id", "plug-ins")])
def test_good_inputs_are_read(name: str, tmp_path: Path) -> None:
    """Else a corpus would only try refusals."""
    readers.READERS[name](tmp_path, next(iter(readers.seeds(name))))
