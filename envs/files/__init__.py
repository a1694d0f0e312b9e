"""Puzzles that lie in files: official CSV files, folders of npy arrays, data sets of the Hugging Face hub."""

from __future__ import annotations

import os
from pathlib import Path

from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.files.csv_file import PuzzleFile
from hrm_gym.envs.files.hub import fetch_csv, is_hub_name
from hrm_gym.envs.files.npy import NpyPuzzles, is_npy_folder

__all__ = ["NpyPuzzles", "PuzzleFile", "can_be_opened", "fetch_csv", "is_hub_name", "is_npy_folder", "open_puzzles"]


def can_be_opened(source: str) -> bool:
    """Whether a text names something that is there, or looks like the path of a file or the name of a data set."""
    named = bool(Path(source).suffix) or "/" in source or os.sep in source or os.path.exists(source)
    return bool(source.strip()) and named


def open_puzzles(path: str | Path, family: PuzzleFamily, split: str = "train") -> PuzzleFile | NpyPuzzles:
    """The puzzles that a path or the name of a data set stands for.

    Args:
        path: one of
            - a CSV file with the columns `source,question,answer,rating`, or Kaggle's (`quizzes,solutions`;
              `puzzle,solution`), or a text file with a puzzle a line (.sdm, .txt); it is one split by itself. Puzzles
              without an answer are solved,
            - a folder with `train.csv` and / or `test.csv`,
            - a folder of npy arrays in the layout of the official HRM and TRM code, or one split's folder in it,
            - `owner/name` or `owner/name@revision`, a data set on the Hugging Face hub with such CSV files.
        family: whose puzzles they are.
        split: which part of a folder or data set, e.g. "train" or "test".

    Returns:
        A `PuzzleSource` with a length, an order and random access.

    Raises:
        FileNotFoundError: if there is nothing under that name, here or (where it could be one) on the hub.
        OSError: if it cannot be read or fetched.
        ValueError: if it is read but is not what it should be; the message names the file and the line or row.
    """
    found = Path(path)
    if os.path.isdir(found):  # unlike Path's, says no to names that no file can have
        return _open_folder(found, family, split)
    if not os.path.exists(found) and is_hub_name(str(path)):
        return PuzzleFile(fetch_csv(str(path), split), family)
    return PuzzleFile(found, family)


def _open_folder(folder: Path, family: PuzzleFamily, split: str) -> PuzzleFile | NpyPuzzles:
    if is_npy_folder(folder):
        return NpyPuzzles(folder, family, split)
    file = folder / f"{split}.csv"
    if file.is_file():
        return PuzzleFile(file, family)
    expected = f"{split}.csv, {split}/dataset.json or dataset.json"
    raise ValueError(f"{folder}: expected a folder of puzzles with {expected} in it, got a folder without")
