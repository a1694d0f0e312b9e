"""Which row of the puzzle embedding belongs to a task, as it is and under each symmetry that has a row to itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hrm_gym.agents.hrm.augment import embedded_variant_key


class TaskRows(NamedTuple):
    """How a network's puzzle embedding is laid out.

    Attributes:
        variants: symmetric images of a task with a row to themselves, behind the row of the task itself.
        seed: of the run, which drew their symmetries.
        known: whether the rows are numbered as our environments number tasks; those of official weights are not.
    """

    variants: int = 0
    seed: int = 0
    known: bool = True

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> TaskRows:
        """The layout that the recipe in a checkpoint's JSON tells; without one a task has a single row."""
        if about.get("official"):
            return cls(known=False)
        recipe = about.get("recipe") or {}
        return cls(recipe["variants"], recipe["seed"]) if recipe.get("embed_variants") else cls()

    def keys(self, count: int) -> tuple[int, ...]:
        """The keys of the symmetries of images 1 … count, as they were in training.

        Raises:
            ValueError: there are not so many with a row of their own.
        """
        if count > self.variants:
            raise ValueError(
                f"expected at most {self.variants + 1} images, so many have a puzzle embedding of their own, "
                f"got {count + 1}"
            )
        keys = (embedded_variant_key(self.seed, image) for image in range(1, count + 1))
        return tuple(key for key in keys if key is not None)

    def rows(self, tasks: NDArray[np.int64], images: NDArray[np.int64], count: int) -> NDArray[np.int32]:
        """(B,) rows of tasks (B,) under images (B,); row 0, that of no task in particular, for tasks without one.

        Args:
            tasks: ids of tasks, counted from 1; 0 for an unknown one.
            images: 0 for the task as it is, else the number of the image; those past `variants` are the same again.
            count: rows of the embedding.
        """
        rows = tasks * (self.variants + 1) + images % (self.variants + 1)
        return np.where(self.known & (tasks > 0) & (rows < count), rows, 0).astype(np.int32)
