"""Symmetric images of puzzles: which there are, puzzles shown under them, and answers to them brought back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hrm_gym.agents.hrm.feed import Symmetries, apply_symmetries, draw_symmetries
from hrm_gym.agents.hrm.task_rows import Keys
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import mix64

TRIES = 64
"""Keys tried for each symmetry that is wanted, before giving up on finding another one."""


def known_keys(family: PuzzleFamily, shape: tuple[int, int], count: int) -> tuple[int, ...]:
    """Keys of `count` symmetries that differ from each other and from the identity, or of all there are.

    Args:
        family: whose symmetries.
        shape: (H, W) of its boards.
        count: how many are wanted, at least 0.
    """
    seen = {(np.arange(shape[0] * shape[1]).tobytes(), np.arange(family.vocab_size, dtype=np.uint8).tobytes())}
    keys: list[int] = []
    for number in range(TRIES * (count + 1)):
        if len(keys) == count:
            break
        key = mix64(number)
        cells, tokens = family.symmetry(shape, key)
        signature = (cells.tobytes(), tokens.tobytes())
        if signature not in seen:
            seen.add(signature)
            keys.append(key)
    return tuple(keys)


def distinct_keys(family: PuzzleFamily, shape: tuple[int, int], count: int) -> tuple[int, ...]:
    """`known_keys`, exactly `count` of them.

    Raises:
        ValueError: there are fewer.
    """
    keys = known_keys(family, shape, count)
    if len(keys) < count:
        raise ValueError(
            f"expected at most {len(keys) + 1} images, the number of symmetries found of {family.name} "
            f"{shape[0]}x{shape[1]}, got {count + 1}"
        )
    return keys


def images_of(family: PuzzleFamily, puzzles: NDArray[np.uint8], keys: Sequence[int | None]) -> NDArray[np.uint8]:
    """(B, 1 + K, H, W) images of (B, H, W) puzzles: themselves, then one for each of K keys; None is no symmetry."""
    return np.stack([puzzles, *(puzzles if key is None else family.image(puzzles, key) for key in keys)], axis=1)


def answers_back(family: PuzzleFamily, answers: NDArray[np.uint8], keys: Sequence[int | None]) -> NDArray[np.uint8]:
    """(B, 1 + K, H, W) answers to `images_of` puzzles as answers to the puzzles themselves."""

    def back(image: int, key: int | None) -> NDArray[np.uint8]:
        if key is None:  # only what can be read off the board
            return family.image(family.preimage(answers[:, image], 0), 0)
        return family.preimage(answers[:, image], key)

    return np.stack([back(image, key) for image, key in enumerate((None, *keys))], axis=1)


def images_of_each(family: PuzzleFamily, puzzles: NDArray[np.uint8], keys: Sequence[Keys]) -> NDArray[np.uint8]:
    """`images_of` where each of (B, H, W) puzzles has its own K keys."""
    images = np.empty((len(puzzles), 1 + len(keys[0]), *puzzles.shape[1:]), np.uint8)
    for own, rows in _alike(keys):
        images[rows] = images_of(family, puzzles[rows], own)
    return images


def answers_back_from_each(family: PuzzleFamily, answers: NDArray[np.uint8], keys: Sequence[Keys]) -> NDArray[np.uint8]:
    """`answers_back` from `images_of_each`."""
    back = np.empty_like(answers)
    for own, rows in _alike(keys):
        back[rows] = answers_back(family, answers[rows], own)
    return back


def _alike(keys: Sequence[Keys]) -> Iterable[tuple[Keys, list[int]]]:
    """The rows that have the same keys, together."""
    rows: dict[Keys, list[int]] = {}
    for row, own in enumerate(keys):
        rows.setdefault(own, []).append(row)
    return rows.items()


class Turns:
    """A few symmetries as tables on a device, for boards each of which is seen under one of them; number 0 is none.

    Attributes:
        count: symmetries, the identity included.
    """

    def __init__(self, family: PuzzleFamily, shape: tuple[int, int], count: int, device: torch.device) -> None:
        """Choose `count` symmetries of boards (H, W), or all there are."""
        keys = (None, *known_keys(family, shape, count - 1))
        self.count = len(keys)
        self._there = draw_symmetries(family, shape, keys, device)
        self._cells = self._there.cells.argsort(dim=1)

    def images(self, boards: Tensor, numbers: Tensor) -> Tensor:
        """(B, S) boards, each under the symmetry of its number, (B,) int64."""
        return apply_symmetries(Symmetries(*(table[numbers] for table in self._there)), boards)

    def back(self, logits: Tensor, numbers: Tensor) -> Tensor:
        """Logits (B, S, V) of answers to `images` as logits of answers to the boards themselves."""
        cells = self._cells[numbers][..., None].expand_as(logits)
        tokens = self._there.tokens[numbers][:, None].expand_as(logits)
        return logits.gather(1, cells).gather(2, tokens)
