"""Many rows of text turned into token ids at once, for a family's `read_rows`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

UNKNOWN = 255
"""Stands in a symbol table for every character that means nothing."""


def symbol_table(tokens: Mapping[str, int]) -> bytes:
    """The table that `encode_rows` reads by.

    Args:
        tokens: token id (0..254) of every character that may stand in a row; several may mean the same token.

    >>> symbol_table({".": 1, "0": 1})[ord("0")]
    1
    """
    table = bytearray([UNKNOWN]) * 256
    for character, token in tokens.items():
        table[ord(character)] = token
    return bytes(table)


def encode_rows(texts: Sequence[str], table: bytes) -> NDArray[np.uint8]:
    """Token ids of N texts of one length.

    Args:
        texts: at least one text.
        table: 256 token ids, see `symbol_table`.

    Returns:
        (N, L) uint8.

    Raises:
        ValueError: if the lengths differ or a character is unknown; it does not say where.
    """
    lengths = set(map(len, texts))
    if len(lengths) != 1:
        raise ValueError(f"expected texts of one length, got {len(lengths)} lengths")
    ids = "".join(texts).encode("latin-1").translate(table)
    if UNKNOWN in ids:
        raise ValueError("expected only known characters, got another")
    return np.frombuffer(ids, dtype=np.uint8).reshape(len(texts), lengths.pop())
