"""`hrm-gym data`: build, convert, look at and fetch data sets."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from hrm_gym.envs.files import fetch_csv
from hrm_gym.recorder import check_writable, written_whole
from hrm_gym.scripts import data_build, data_info
from hrm_gym.scripts.arguments import parse

HELP = f"""usage: hrm-gym data build KIND --out FOLDER [options]
       hrm-gym data info PATH
       hrm-gym data fetch OWNER/NAME [options]

build  new puzzles, or those of CSV files, as a folder of npy arrays that the official HRM and TRM code reads as well.
       An interrupted build goes on where it stopped when the same command is given again.
info   what a CSV file, an npy folder or ARC tasks hold; everything in them is checked.
fetch  the CSV files of a data set on the Hugging Face hub.

kinds: {", ".join(data_build.KINDS)}

examples:
  hrm-gym data build maze --out data/maze-10 --size 10 --train 1000 --test 200 --processes 2
  hrm-gym data build maze-hard --out data/maze-hard --train 1000 --test 1000 --aug 7
  hrm-gym data build sudoku --out data/sudoku-extreme --difficulty extreme
  hrm-gym data build sudoku --out data/sudoku-1k --from sapientinc/sudoku-extreme --subsample 1000 --aug 1000
  hrm-gym data build maze --out data/mazes --from train.csv --test-from test.csv
  hrm-gym data build KIND --help                       every option with its default
  hrm-gym data info data/maze-10
  hrm-gym data fetch sapientinc/sudoku-extreme --split train test --out data
"""


@dataclass(frozen=True)
class FetchConfig:
    """Fetch the CSV files of a data set on the Hugging Face hub, to OUT/NAME/SPLIT.csv.

    Attributes:
        name: owner/name or owner/name@revision.
        split: Which files.
        out: Folder under which a folder of the data set's name is made.
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OWNER/NAME")]
    split: tuple[str, ...] = ("train", "test")
    out: Path = Path("data")


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym data COMMAND …`.

    Args:
        argv: the arguments after `data`.

    Returns:
        0; 130 after Ctrl-C in a build.

    Raises:
        ValueError: for bad input of any kind; the message fits on one line.
        OSError: for files that cannot be fetched, read or written.
    """
    commands: dict[str, Callable[[Sequence[str]], int]] = {
        "build": data_build.main,
        "info": data_info.main,
        "fetch": _fetch,
    }
    if argv and argv[0] in ("-h", "--help"):
        print(HELP)
        return 0
    if not argv or argv[0] not in commands:
        found = f"unknown command {argv[0]!r}" if argv else "no command given"
        raise ValueError(f"{found}: expected one of {', '.join(commands)} (see hrm-gym data --help)")
    if list(argv[1:]) in (["-h"], ["--help"]) and argv[0] == "build":
        print(HELP)
        return 0
    return commands[argv[0]](argv[1:])


def _fetch(argv: Sequence[str]) -> int:
    config = parse(FetchConfig, "hrm-gym data fetch", argv)
    folder = config.out / config.name.partition("@")[0].rpartition("/")[2]
    targets = {split: folder / f"{split}.csv" for split in config.split}
    for path in targets.values():
        check_writable(path)
    for split, path in targets.items():
        cached = fetch_csv(config.name, split)
        with written_whole(path) as draft:
            shutil.copyfile(cached, draft)
        print(path)
    return 0
