"""Data sets of the Hugging Face hub, by name."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hrm_gym.reading import whole_number

TIMEOUTS = ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT")
"""Environment variables of `huggingface_hub` in seconds, which it reads when it is imported."""

_NAME = re.compile(r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")


def is_hub_name(text: str) -> bool:
    """Whether `text` can be the name of a data set on the hub, `owner/name` or `owner/name@revision`.

    >>> is_hub_name("sapientinc/sudoku-extreme"), is_hub_name("data/train.csv"), is_hub_name("train")
    (True, False, False)
    """
    return _NAME.fullmatch(text) is not None and not text.endswith(".csv")


def check_timeouts() -> None:
    """Find out whether `huggingface_hub` can be imported with these `TIMEOUTS`. ValueError names one that is none."""
    for name in TIMEOUTS:
        whole_number(name, 10, 0, 10**6)


def fetch_csv(name: str, split: str) -> Path:
    """One file of a data set, from the hub's cache on this machine or else from the net.

    Args:
        name: `owner/name` or `owner/name@revision`.
        split: the file is `{split}.csv`.

    Returns:
        The file in the cache of `huggingface_hub`.

    Raises:
        ValueError: if `name` is no such name, or one of the `TIMEOUTS` no number.
        OSError: if the file is not cached and cannot be fetched; one line that says how to do without.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"expected a data set's name such as owner/name or owner/name@revision, got {name!r}")
    check_timeouts()
    import huggingface_hub

    try:
        with _quiet():
            return Path(
                huggingface_hub.hf_hub_download(
                    match["repository"], f"{split}.csv", repo_type="dataset", revision=match["revision"]
                )
            )
    except Exception as error:  # the hub's own, its HTTP library's, the operating system's: all mean that nothing came
        raise OSError(
            f"{name}: found no such file or folder here, and {split}.csv of a data set of that name could not be "
            f"fetched from the Hugging Face hub ({_first_sentence(error)}); give the path of a CSV file or folder "
            f"instead"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the hub's log of its retries, which would bury the one line that counts."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _first_sentence(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return re.split(r"(?<=[^.])\. ", text)[0].rstrip(".")[:200]
