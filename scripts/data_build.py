"""`hrm-gym data build`: new puzzles, or those of CSV files, as a data set on disk."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.dataset_build import DatasetBuild, Plan, with_images
from hrm_gym.dataset_folder import Groups, SplitRecord, check_place, write_dataset, write_manifest
from hrm_gym.dataset_parts import Workplace
from hrm_gym.envs.files import NpyPuzzles, PuzzleFile, is_hub_name, open_puzzles
from hrm_gym.envs.files.npy_folder import splits_of
from hrm_gym.envs.puzzle import PuzzleBatch, PuzzleFamily
from hrm_gym.scripts.arguments import parse
from hrm_gym.scripts.data_kinds import KINDS, BuildConfig, Kind
from hrm_gym.scripts.progress import passing_bar

INTERRUPTED = 130
DEFAULT_COUNTS = {"train": 1000, "test": 200}
_ROWS = 4096
_UNRECORDED = ("out", "processes", "overwrite")
"""Options on which the puzzles do not depend."""


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym data build KIND [options]`.

    Returns:
        0, or 130 after Ctrl-C.

    Raises:
        ValueError: no or an unknown kind, a bad option, a bad file, or a build that other options began.
        OSError: if something cannot be read or written.
    """
    if not argv or argv[0] not in KINDS:
        found = f"unknown kind {argv[0]!r}" if argv else "no kind given"
        raise ValueError(f"{found}: expected one of {', '.join(KINDS)} (see hrm-gym data --help)")
    config = parse(KINDS[argv[0]].config, f"hrm-gym data build {argv[0]}", argv[1:])
    _check(config)
    check_place(config.out, config.overwrite)
    job = Job(argv[0], config, KINDS[argv[0]], shlex.join(["hrm-gym", "data", "build", *argv]))
    try:
        records = job.build() if config.from_ is None else job.convert()
    except KeyboardInterrupt:
        print(f"interrupted: the same command goes on from {config.out}.partial", file=sys.stderr)
        return INTERRUPTED
    for split, record in records.items():
        images = f", {record.puzzles:,} with their images" if record.puzzles > record.groups else ""
        print(f"{config.out / split}: {record.groups:,} puzzles{images}")
    return 0


def _check(config: BuildConfig) -> None:
    """Refuse numbers out of range and options that do not go together, before any work."""
    for name, least in (("train", 1), ("test", 0), ("aug", 0), ("processes", 1), ("subsample", 1)):
        value = getattr(config, name)
        if value is not None and value < least:
            raise ValueError(f"expected --{name} of at least {least}, got {value}")
    apart = ("test_from", "subsample", "min_rating") if config.from_ is None else ("train", "test")
    for name in apart:
        if getattr(config, name) is not None:
            way = "only with --from" if config.from_ is None else "without --from (--subsample takes a sample)"
            raise ValueError(f"expected --{name.replace('_', '-')} {way}, got {getattr(config, name)}")


@dataclass(frozen=True)
class Job:
    """One build.

    Attributes:
        name: the kind's.
        config: its options.
        kind: what is built.
        command: the command line, for the manifest.
    """

    name: str
    config: BuildConfig
    kind: Kind
    command: str

    def build(self) -> dict[str, SplitRecord]:
        """Compute new puzzles."""
        config, family, counts = self.config, self.kind.family(self.config), self._counts()
        plan = Plan(family, self.kind.source(config), counts, config.seed, self.kind.block)
        for split in counts:
            plan.source(split)  # bad options are refused here, before a folder is made
        workplace = self._workplace()
        work = DatasetBuild(plan, workplace)
        if work.done:
            print(f"going on in {workplace.path} with {work.done:,} puzzles", file=sys.stderr)
        with passing_bar(sum(counts.values()), " puzzles", "building", initial=work.done) as bar:
            for done in work.run(config.processes):
                bar.update(done - bar.n)
        return self._finish(workplace, family, {split: work.batches(split) for split in counts if counts[split]})

    def convert(self) -> dict[str, SplitRecord]:
        """Take the puzzles of files."""
        family = self.kind.family(self.config)
        sources = {split: open_puzzles(path, family, split) for split, path in self._paths().items()}
        chosen = {split: self._chosen(split, source) for split, source in sources.items()}
        batches = {split: _rows_of(sources[split], rows) for split, rows in chosen.items()}
        return self._finish(self._workplace(), family, batches)

    def _paths(self) -> dict[str, str]:
        """Where each split comes from."""
        path, test = str(self.config.from_), self.config.test_from
        if test is not None:
            return {"train": path, "test": test}
        folder = Path(path)
        if folder.is_dir():
            found = [s for s in DEFAULT_COUNTS if (folder / f"{s}.csv").is_file() or s in splits_of(folder)]
            return dict.fromkeys(found or ["train"], path)
        is_name = is_hub_name(path) and not folder.exists()
        return dict.fromkeys(DEFAULT_COUNTS, path) if is_name else {"train": path}

    def _chosen(self, split: str, source: PuzzleFile | NpyPuzzles) -> NDArray[np.int64]:
        """The rows that rating and sample leave, in the order of the file."""
        rows, config = np.arange(len(source)), self.config
        if config.min_rating is not None:
            if not isinstance(source, PuzzleFile):
                raise ValueError(f"expected CSV files, which have ratings, with --min-rating, got {config.from_}")
            rows = rows[source.ratings >= config.min_rating]
        if split == "train" and config.subsample is not None and config.subsample < len(rows):
            rng = np.random.default_rng(config.seed)
            rows = np.sort(rng.choice(rows, config.subsample, replace=False))
        if not len(rows):
            raise ValueError(f"expected puzzles rated {config.min_rating} or harder for {split}, got none")
        return rows

    def _arguments(self) -> dict[str, Any]:
        """The options on which the puzzles depend, by their names on the command line; defaults are filled in."""
        found = {name.strip("_"): value for name, value in asdict(self.config).items() if name not in _UNRECORDED}
        return found if self.config.from_ is not None else {**found, **self._counts()}

    def _counts(self) -> dict[str, int]:
        """Puzzles of each split, where new ones are wanted."""
        given = {split: getattr(self.config, split) for split in DEFAULT_COUNTS}
        return {split: DEFAULT_COUNTS[split] if n is None else n for split, n in given.items()}

    def _workplace(self) -> Workplace:
        recipe = {"kind": self.name, "block": self.kind.block, **self._arguments()}
        return Workplace(self.config.out, recipe, self.config.overwrite)

    def _finish(
        self, workplace: Workplace, family: PuzzleFamily, batches: dict[str, Iterator[PuzzleBatch]]
    ) -> dict[str, SplitRecord]:
        """Write the arrays and the manifest, and put the data set in its place."""
        draft, records = workplace.path / "whole", {}
        shutil.rmtree(draft, ignore_errors=True)
        for split, found in batches.items():
            groups = self._with_images(family, split, found)
            records[split] = write_dataset(draft, split, groups, family.vocab_size)
        side = int(np.load(draft / "train" / "all__inputs.npy", mmap_mode="r").shape[1] ** 0.5)
        about = {"family": family.name, "grid": [side, side], "kind": self.name, "seed": self.config.seed}
        write_manifest(draft, {**about, "command": self.command, "arguments": self._arguments()}, records)
        workplace.finish(draft)
        return records

    def _with_images(self, family: PuzzleFamily, split: str, batches: Iterator[PuzzleBatch]) -> Iterator[Groups]:
        count, first = self.config.aug if split == "train" else 0, 0
        with passing_bar(None, " puzzles", split) as bar:
            for batch in batches:
                yield with_images(family, batch, count, self.config.seed, first)
                first += len(batch)
                bar.update(len(batch))


def _rows_of(source: PuzzleFile | NpyPuzzles, rows: NDArray[np.int64]) -> Iterator[PuzzleBatch]:
    """Some rows of a source, a few thousand at a time."""
    for first in range(0, len(rows), _ROWS):
        yield source.batch(rows[first : first + _ROWS].astype(np.uint64))
