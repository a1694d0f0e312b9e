"""`hrm-gym data`: build data sets of new puzzles or of files, look into files, fetch them.

A new kind of data set is a config and a line in `KINDS`.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from math import isqrt
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
import tyro
from numpy.typing import NDArray

from hrm_gym.data.build import DatasetBuild, Plan, Workplace, with_images
from hrm_gym.data.folder import MANIFEST, Groups, SplitRecord, check_place, write_dataset, write_manifest
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.files import NpyPuzzles, PuzzleFile, fetch_csv, is_hub_name, is_npy_folder, open_puzzles
from hrm_gym.envs.files.csv_file import first_question
from hrm_gym.envs.files.npy import DESCRIPTION, read_metadata, splits_of
from hrm_gym.envs.puzzle import PuzzleBatch, PuzzleSource
from hrm_gym.envs.sudoku.boxes import BOXES, usual_box
from hrm_gym.envs.sudoku.rules import sudoku
from hrm_gym.files import check_writable, held, remove, written_atomically
from hrm_gym.reading import open_npy, read_object
from hrm_gym.registry import family_names, make_family, make_puzzle_env, read_puzzle_env, unknown
from hrm_gym.scripts.options import Switch, arg, at_least, parse, print_about
from hrm_gym.scripts.output import passing_bar, say


@dataclass(frozen=True)
class Build:
    """A data set of one kind, new or from CSV files, in the layout of the official HRM and TRM code.

    Attributes:
        out: Folder of the data set; a build continues in FOLDER.partial where an earlier one stopped.
        train: Puzzles to train on, not counting images.
        test: Puzzles to test on; none of them is among the others, turned or not.
        aug: Symmetric images of every training puzzle, in one group with it.
        seed: Which stream of puzzles, of images, and which sample.
        processes: How many compute new puzzles; the data set does not depend on it.
        overwrite: Replace a finished data set.
        from_: Take the puzzles of this CSV file, folder or data set on the hub instead of new ones.
        test_from: Where the test puzzles come from, if --from is a single file.
        subsample: With --from, a random sample of the training puzzles.
        min_rating: With --from, only puzzles rated so or harder.
    """

    EXAMPLES = (
        "hrm-gym data build maze --out data/maze-10 --size 10 --processes 2",
        "hrm-gym data build sudoku --out data/extreme --difficulty extreme --aug 7",
        "hrm-gym data build maze --out mazes --from train.csv --test-from test.csv",
    )
    out: Annotated[Path, arg("FOLDER")]
    train: Annotated[int | None, arg("N", "1000")] = None
    test: Annotated[int | None, arg("N", "200")] = None
    aug: Annotated[int, arg("N", "0")] = 0
    seed: int = 0
    processes: Annotated[int, arg("P", "1")] = 1
    overwrite: Switch = False
    from_: Annotated[str | None, arg("FILE|NAME", "new puzzles", name="from")] = None
    test_from: Annotated[str | None, arg("FILE", "none")] = None
    subsample: Annotated[int | None, arg("N", "all")] = None
    min_rating: Annotated[float | None, arg("R", "any")] = None

    def __post_init__(self) -> None:
        """Refuse numbers out of range and options that do not go together, before any work."""
        at_least(1, self, "train", "processes", "subsample")
        at_least(0, self, "test", "aug")
        for name in ("test_from", "subsample", "min_rating") if self.from_ is None else ("train", "test"):
            if getattr(self, name) is not None:
                way = "only with --from" if self.from_ is None else "without --from (--subsample takes a sample)"
                raise ValueError(f"expected --{name.replace('_', '-')} {way}, got {getattr(self, name)}")


@dataclass(frozen=True)
class MazeBuild(Build):
    """Mazes with random walls, in the layout of the official HRM and TRM code.

    Attributes:
        size: Side length.
        min_path: Least cells of a shortest path, start and goal counted.
        wall_share: Probability of a wall.
    """

    size: int = 10
    min_path: Annotated[int | None, arg("N", "the size")] = None
    wall_share: float = 0.35


@dataclass(frozen=True)
class HardMazeBuild(MazeBuild):
    """Mazes like those of Maze-Hard, in the layout of the official HRM and TRM code."""

    size: int = 30
    min_path: Annotated[int | None, arg("N", "110")] = 110
    wall_share: float = 0.37


@dataclass(frozen=True)
class SudokuBuild(Build):
    """Sudokus with one solution, in the layout of the official HRM and TRM code.

    Attributes:
        difficulty: By guesses that a solver needs, none, 1 to 4, 5 to 14, 15 or more; only 9x9 has the last.
        box: Rows and columns of a box; 3 3 is 9x9.
    """

    difficulty: Literal["easy", "medium", "hard", "extreme"] = "easy"
    box: Annotated[tuple[int, int], arg("R C", "3 3")] = (3, 3)


@dataclass(frozen=True)
class Kind:
    """A kind of data set.

    Attributes:
        config: its options.
        env: the environment whose puzzles they are; `fields` of the config are arguments of its constructor.
        fields: their names.
        block: puzzles that are computed at a time.
    """

    config: type[Build]
    env: str
    fields: tuple[str, ...] = ()
    block: int = 50

    def source(self, config: Build) -> Callable[[str], PuzzleSource]:
        """A picklable function that gives the source of new puzzles of a split."""
        return partial(puzzles_of, env=self.env, arguments=self.arguments(config))

    def arguments(self, config: Build) -> dict[str, Any]:
        """The constructor arguments that the options ask for."""
        return {name: getattr(config, name) for name in self.fields}


def puzzles_of(split: str, env: str, arguments: dict[str, Any]) -> PuzzleSource:
    """New puzzles of an environment."""
    found: PuzzleSource = make_puzzle_env(env, source="generate", split=split, **arguments).puzzle_source
    return found


MAZE_FIELDS = ("size", "min_path", "wall_share")
KINDS = {
    "maze": Kind(MazeBuild, "HRMMaze-v0", MAZE_FIELDS, 1000),
    "maze-hard": Kind(HardMazeBuild, "HRMMaze-v0", MAZE_FIELDS),
    "sudoku": Kind(SudokuBuild, "HRMSudoku-v0", ("box", "difficulty"), 25),
}

ABOUT = f"""New puzzles, or those of files, as a folder of npy arrays that the official HRM and TRM code reads as well.
An interrupted build continues where it stopped when the same command is given again.

kinds: {", ".join(KINDS)}

An environment (ID, ID:argument=value,… or module:ID) makes puzzles of its own."""

DEFAULT_COUNTS = {"train": 1000, "test": 200}
_ROWS = 4096
_UNRECORDED = ("out", "processes", "overwrite")
"""Options on which the puzzles do not depend."""


def build(argv: Sequence[str]) -> None:
    """Run `hrm-gym data build KIND [options]`.

    Raises:
        ValueError: no or an unknown kind, a bad option, a bad file, or a build that other options began.
    """
    if list(argv) in (["-h"], ["--help"]):
        print_about("hrm-gym data build", "KIND", ABOUT, Build.EXAMPLES)
    if not argv:
        raise ValueError(
            f"no kind given: expected one of {', '.join(KINDS)}, or an environment (see hrm-gym data build --help)"
        )
    name = argv[0]
    if name not in KINDS and ":" not in name and name not in gym.registry:
        raise ValueError(f"{unknown('kind', name, KINDS)}, or an environment (see hrm-gym data build --help)")
    if (kind := KINDS.get(name)) is None:
        read_puzzle_env(name)  # whatever is wrong with it is found out here
        kind = Kind(Build, name)
    config = parse(kind.config, f"hrm-gym data build {name}", argv[1:])
    check_place(config.out, config.overwrite)
    job = Job(name, config, kind, shlex.join(["hrm-gym", "data", "build", *argv]))
    try:
        records = job.build() if config.from_ is None else job.convert()
    except KeyboardInterrupt:
        say(f"interrupted: the same command continues from {config.out}.partial", file=sys.stderr)
        raise
    for split, record in records.items():
        images = f", {record.puzzles:,} with their images" if record.puzzles > record.groups else ""
        say(f"{config.out / split}: {record.groups:,} puzzles{images}")


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
    config: Build
    kind: Kind
    command: str

    @cached_property
    def family(self) -> PuzzleFamily:
        """The rules of the puzzles."""
        found: PuzzleFamily = make_puzzle_env(self.kind.env, **self.kind.arguments(self.config)).family
        return found

    def build(self) -> dict[str, SplitRecord]:
        """Compute new puzzles."""
        config, counts = self.config, self._counts()
        plan = Plan(self.family, self.kind.source(config), counts, config.seed, self.kind.block)
        for split in counts:
            plan.source(split)  # bad options are refused here, before a folder is made
        workplace = self._workplace()
        with held(workplace.path):
            work = DatasetBuild(plan, workplace)
            if work.done:
                say(f"continuing in {workplace.path} with {work.done:,} puzzles", file=sys.stderr)
            with passing_bar(sum(counts.values()), " puzzles", "building", initial=work.done) as bar:
                for done in work.run(config.processes):
                    bar.update(done - bar.n)
            return self._finish(workplace, {split: work.batches(split) for split in counts if counts[split]})

    def convert(self) -> dict[str, SplitRecord]:
        """Take the puzzles of files."""
        sources = {split: open_puzzles(path, self.family, split) for split, path in self._paths().items()}
        chosen = {split: self._chosen(split, source) for split, source in sources.items()}
        batches = {split: _rows_of(sources[split], rows) for split, rows in chosen.items()}
        workplace = self._workplace()
        with held(workplace.path):
            return self._finish(workplace, batches)

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

    def _finish(self, workplace: Workplace, batches: dict[str, Iterator[PuzzleBatch]]) -> dict[str, SplitRecord]:
        """Write the arrays and the manifest, and put the data set in its place."""
        draft, records = workplace.path / "whole", {}
        remove(draft)
        for split, found in batches.items():
            groups = self._with_images(split, found)
            records[split] = write_dataset(draft, split, groups, self.family.vocab_size)
        side = int(open_npy(draft / "train" / "all__inputs.npy").shape[1] ** 0.5)
        about = {"family": self.family.name, "grid": [side, side], "kind": self.name, "seed": self.config.seed}
        write_manifest(draft, {**about, "command": self.command, "arguments": self._arguments()}, records)
        workplace.finish(draft)
        return records

    def _with_images(self, split: str, batches: Iterator[PuzzleBatch]) -> Iterator[Groups]:
        count, first = self.config.aug if split == "train" else 0, 0
        with passing_bar(None, " puzzles", split) as bar:
            for batch in batches:
                yield with_images(self.family, batch, count, self.config.seed, first)
                first += len(batch)
                bar.update(len(batch))


def _rows_of(source: PuzzleFile | NpyPuzzles, rows: NDArray[np.int64]) -> Iterator[PuzzleBatch]:
    """Some rows of a source, a few thousand at a time."""
    for first in range(0, len(rows), _ROWS):
        yield source.batch(rows[first : first + _ROWS].astype(np.uint64))


# ---- what files hold ----

MAZE_CHARACTERS = set("# SGo")


@dataclass(frozen=True)
class Info:
    """What a CSV or text file, a folder of CSV files, an npy folder or ARC tasks (JSON) hold; everything is checked.

    Attributes:
        path: The file or folder.
        family: Whose puzzles they are, where the files do not show it.
        box: Rows and columns of a Sudoku's box.
    """

    EXAMPLES = (
        "hrm-gym data info data/maze-10",
        ("hrm-gym data info sudoku.csv", "Kaggle's files (quizzes,solutions or puzzle,solution) as well"),
        ("hrm-gym data info puzzles.sdm", "a puzzle a line, solved here; bad lines are named"),
    )
    path: Annotated[tyro.conf.Positional[Path], arg("PATH")]
    family: Annotated[str | None, arg("NAME", "seen")] = None
    box: Annotated[tuple[int, int] | None, arg("ROWS COLUMNS", "usual")] = None


def info(argv: Sequence[str]) -> None:
    """Run `hrm-gym data info PATH`."""
    config = parse(Info, "hrm-gym data info", argv)
    if config.family is not None and config.family not in family_names():
        raise ValueError(unknown("family", config.family, family_names()))
    path = config.path
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a file or folder of puzzles, found neither")
    if path.is_dir() and is_npy_folder(path):
        _show_npy(path, config)
    elif path.is_dir() and (files := sorted(path.glob("*.csv"))):
        for file in files:
            _show_csv(file, config)
    elif path.is_dir() or path.suffix.lower() == ".json":
        _show_arc(path)
    else:
        _show_csv(path, config)


def _show_csv(path: Path, config: Info) -> None:
    family = _csv_family(path, config)
    puzzles = PuzzleFile(path, family)
    kind = "CSV" if path.suffix.lower() == ".csv" else "text"
    say(f"{path}: {kind}, {family.name} {_size(puzzles.shape)}, {len(puzzles):,} puzzles, all valid")
    rated = puzzles.ratings[~np.isnan(puzzles.ratings)]
    if len(rated):
        say(f"  ratings: {len(rated):,}, from {rated.min():g} to {rated.max():g}, mean {rated.mean():.2f}")
    else:
        print("  ratings: none")
    _show_first(family, puzzles)


def _csv_family(path: Path, config: Info) -> PuzzleFamily:
    """The family of a CSV file, by its first question."""
    question = first_question(path)
    if config.family not in (None, "maze", "sudoku", "arc"):
        return make_family(config.family, _square(path, len(question)))
    if (config.family or "maze") == "maze" and set(question) <= MAZE_CHARACTERS:
        return make_family("maze", (2, 2))
    return _sudoku(path, len(question), config.box)


def _square(path: Path, cells: int) -> tuple[int, int]:
    """The grid of boards with `cells` cells."""
    side = isqrt(cells)
    if side * side != cells or not cells:
        raise ValueError(f"{path}: expected square boards, got some of {cells} cells")
    return side, side


def _sudoku(path: Path, cells: int, box: tuple[int, int] | None) -> PuzzleFamily:
    """The Sudokus with `cells` cells."""
    side = isqrt(cells)
    sides = sorted({rows * columns for rows, columns in BOXES})
    if side * side != cells or (box is None and side not in sides):
        expected = ", ".join(f"{n}x{n}" for n in sides)
        raise ValueError(f"{path}: expected mazes, ARC grids or Sudokus of {expected}, got puzzles of {cells} cells")
    return sudoku(box or usual_box(side))


def _show_npy(path: Path, config: Info) -> None:
    places = (folder / MANIFEST for folder in (path, path.parent))
    found = next((place for place in places if place.is_file()), None)
    manifest = Manifest() if found is None else read_object(found, Manifest)
    folders = [path] if (path / DESCRIPTION).is_file() else [path / split for split in splits_of(path)]
    for folder in folders:
        family, has_rules = _npy_family(folder, config.family or manifest.family, config.box)
        puzzles = NpyPuzzles(folder, family)
        valid = "all valid" if has_rules else "all tokens valid"
        counts = f"{len(puzzles.puzzle_indices) - 1:,} puzzles in {len(puzzles.group_indices) - 1:,} groups"
        say(
            f"{folder}: npy, {family.name} {_size(puzzles.shape)}, {len(puzzles):,} examples of {counts}, "
            f"{len(np.unique(puzzles.puzzle_ids)):,} identifiers, {valid}"
        )
        _show_first(family, puzzles)
    if manifest.command:
        say(f"made by: {manifest.command}")


@dataclass(frozen=True)
class Manifest:
    """What a data set says of itself, as far as it is read."""

    family: str | None = None
    command: str | None = None


def _npy_family(folder: Path, name: str | None, box: tuple[int, int] | None) -> tuple[PuzzleFamily, bool]:
    """The family of a split, by its name or its vocabulary, and whether its rules can judge an example."""
    about = read_metadata(folder / DESCRIPTION)
    name = name or {6: "maze", 12: "arc"}.get(about.vocab_size, "sudoku")
    if name not in ("sudoku", "arc"):
        return make_family(name, _square(folder, about.seq_len)), True
    if name == "arc":
        family: Any = SimpleNamespace(name="arc", vocab_size=12, has_solver=False, to_text=_arc_text)
        return family, False
    return _sudoku(folder, about.seq_len, box), True


def _arc_text(grid: Any) -> str:
    """Colours as digits, the grid's end as a line, padding as dots."""
    return "\n".join("".join("·|0123456789"[token] for token in row) for row in grid)


def _show_arc(path: Path) -> None:
    from hrm_gym.envs.arc.tasks import read_tasks

    tasks = read_tasks(path)
    for split, found in tasks.splits.items():
        pairs = [pair for task in found for pair in (*task.train, *task.test)]
        sides = [side for pair in pairs for grid in pair for side in grid.shape]
        open_grids = sum(len(task.asked) - len(task.test) for task in found)
        without = f" and {open_grids:,} without" if open_grids else ""
        say(
            f"{path}: ARC tasks, {split}: {len(found):,} tasks, {sum(len(task.train) for task in found):,} "
            f"demonstrations, {sum(len(task.test) for task in found):,} test grids with outputs{without}, "
            f"sides {min(sides)} to {max(sides)}, all valid"
        )
    task = next(task for found in tasks.splits.values() for task in found)
    say(f"task {task.name}, first demonstration:")
    for grid in task.train[0]:
        print("\n".join("  " + "".join(map(str, row)) for row in grid), end="\n\n")


def _show_first(family: PuzzleFamily, puzzles: PuzzleFile | NpyPuzzles) -> None:
    """The first puzzle and its solution as text."""
    puzzle = puzzles[0]
    rating = "" if puzzle.rating is None else f", rated {puzzle.rating:g}"
    for title, grid in ((f"{puzzle.name}{rating}", puzzle.clues), ("solution", puzzle.solution)):
        say(f"  {title}:")
        print("\n".join("    " + line for line in family.to_text(grid).splitlines()))


def _size(shape: tuple[int, int]) -> str:
    return "x".join(map(str, shape))


@dataclass(frozen=True)
class Fetch:
    """Fetch the CSV files of a data set on the Hugging Face hub, to OUT/NAME/SPLIT.csv.

    Attributes:
        name: owner/name or owner/name@revision.
        split: Which files.
        out: Folder under which a folder of the data set's name is made.
    """

    EXAMPLES = (
        "hrm-gym data fetch sapientinc/sudoku-extreme",
        "hrm-gym data fetch sapientinc/maze-30x30-hard-1k --split test --out data",
    )
    name: Annotated[tyro.conf.Positional[str], arg("OWNER/NAME")]
    split: tuple[str, ...] = ("train", "test")
    out: Annotated[Path, arg("FOLDER", "data")] = Path("data")


def fetch(argv: Sequence[str]) -> None:
    """Run `hrm-gym data fetch`."""
    config = parse(Fetch, "hrm-gym data fetch", argv)
    folder = config.out / config.name.partition("@")[0].rpartition("/")[2]
    targets = {split: folder / f"{split}.csv" for split in config.split}
    for path in targets.values():
        check_writable(path)
    for split, path in targets.items():
        cached = fetch_csv(config.name, split)
        with written_atomically(path) as draft:
            shutil.copyfile(cached, draft)
        print(path)
