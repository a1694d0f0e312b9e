"""Halting banks: an HRM is run over puzzles, no board ever halting, and what it held after each segment is kept.

A bank is built in parts on disk, so that a build that was killed continues and ends with the same file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hrm_gym.agents import pretrained
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.halting import Never, certainty
from hrm_gym.agents.hrm.hub import Pretrained, load_pretrained
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.thinking import Rules
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.halting.bank import FORMAT_VERSION, LOGIT_LIMIT, SCALARS, SCHEMA, STATE_LIMIT, from_arrays
from hrm_gym.envs.puzzle import Puzzle
from hrm_gym.files import check_ours, delete_folder, sweep, write_atomically, write_npz
from hrm_gym.reading import Schema, read_json, read_npz

logger = logging.getLogger(__name__)

Arrays = dict[str, NDArray[Any]]


def load_for(family: PuzzleFamily, shape: tuple[int, int], weights: Path | str | None) -> tuple[Pretrained, str]:
    """Weights for a family, and what to call them.

    Args:
        family: of the puzzles.
        shape: (H, W) of their grids.
        weights: as for `load_pretrained`; None takes bundled ones of the family, those of this grid first.

    Raises:
        ValueError: nothing bundled fits, or the weights are of another family.
        OSError: there are none at `weights`.
    """
    if weights is None:
        fitting = [(path, about) for path, about in pretrained.bundled("hrm") if about["family"] == family.name]
        if not fitting:
            raise ValueError(f"no bundled HRM weights fit {family.name}; bundled: {pretrained.describe('hrm')}")
        weights = min(fitting, key=lambda one: tuple(one[1]["model"]["grid"]) != tuple(shape))[0]
    found = load_pretrained(weights)
    if found.about.get("family") != family.name:
        raise ValueError(f"weights {weights} are for {found.about.get('family')}, the puzzles are {family.name}")
    return found, Path(str(weights)).name


def agent_on(found: Pretrained, family: PuzzleFamily, shape: tuple[int, int], device: str = "auto") -> HRMAgent:
    """An agent with these weights on grids of `shape`, which may differ from the grid of the training.

    Raises:
        ValueError: the network is tied to its grid (learned positions, or an MLP over the sequence).
    """
    config = found.model.config
    if config.grid == tuple(shape):
        return HRMAgent.of(found, family, device=device)
    if config.positions not in ("rope", "rope2d", "none") or config.mixer != "attention":
        raise ValueError(f"expected puzzles of {config.grid}, to which the network is tied, got {tuple(shape)}")
    model = HRM.from_state(dataclasses.replace(config, grid=(shape[0], shape[1])))
    model.load_state_dict(found.model.state_dict())
    return HRMAgent.of(found._replace(model=model), family, device=device)


def weights_digest(model: HRM) -> str:
    """A SHA-256 over names and values of all weights, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def puzzle_digest(family: PuzzleFamily, puzzle: Puzzle) -> bytes:
    """8 bytes that are the same for all symmetric images of a puzzle, and for others are not."""
    grid = family.canonical(puzzle.clues)
    task = puzzle.puzzle_id.to_bytes(4, "little")
    return hashlib.blake2b(task + np.ascontiguousarray(grid).tobytes(), digest_size=8).digest()


def is_test(family: PuzzleFamily, puzzle: Puzzle, share: float) -> bool:
    """Whether a puzzle and its cluster (all with its solution, or its task) are in the test split of a bank; the same
    in every bank of that share.
    """
    return family.cluster(puzzle) < share * 2.0**64


def difficulty(family: PuzzleFamily, puzzle: Puzzle) -> float:
    """The rating of a puzzle where it has one, else what its family counts."""
    return float(family.difficulty(puzzle) if puzzle.rating is None else puzzle.rating)


@torch.inference_mode()
def record(agent: HRMAgent, puzzles: Sequence[Puzzle], segments: int) -> Arrays:
    """What the network held after each of K segments on B puzzles.

    Returns:
        (B, K) arrays `solved`, `exact`, `cell_accuracy` and the scalars of an observation (without the share), as a
        bank has them; and `pooled` (B, K, P) float16, see `pooled`.
    """
    clues, solutions = (np.stack([getattr(p, name) for p in puzzles]) for name in ("clues", "solution"))
    boards, model = agent.boards_of(puzzles), agent.model
    before, columns = torch.zeros_like(boards.inputs), []
    for _, state in agent.think(boards, rules=Rules(Never(), segments)):
        verdict = agent.family.verdict(clues, solutions, state.answers.cpu().numpy().reshape(clues.shape))
        q_halt, q_continue = state.q_logits.unbind(1)
        lowest, mean = certainty(state.confidence, boards.free)
        altered = ((state.answers != before) & boards.free).sum(1) / boards.free.sum(1).clamp(min=1)
        before = state.answers
        if model.config.halting == "bce":  # Q(continue) was not trained
            q_continue = torch.zeros_like(q_halt)
        values = (q_halt, q_continue, _logit(mean), _logit(lowest), altered)
        cut = (value.clamp(-LOGIT_LIMIT, LOGIT_LIMIT) for value in values)
        column = {name: verdict[name] for name in ("solved", "exact", "cell_accuracy")}
        column |= {name: value.cpu().numpy() for name, value in zip(SCALARS[1:], cut, strict=True)}
        columns.append(column | {"pooled": pooled(model, state.carry.z_h).cpu().numpy()})
    whole = {name: np.stack([column[name] for column in columns], axis=1) for name in columns[0]}
    return {name: part if part.dtype == np.bool_ else part.astype(np.float16) for name, part in whole.items()}


def pooled(model: HRM, z_h: torch.Tensor) -> torch.Tensor:
    """(B, P) float32 of (B, T, D) states: the mean over the cells, then position 0, which the Q-head reads."""
    return torch.cat((z_h[:, model.config.prefix :].float().mean(dim=1), z_h[:, 0].float()), dim=1)


def _logit(probability: torch.Tensor) -> torch.Tensor:
    """log(p / (1 - p)), finite at 0 and 1 as well."""
    p = probability.double()
    return (torch.log(p.clamp(min=1e-9)) - torch.log((1 - p).clamp(min=1e-9))).float()


RECIPE = "recipe.json"
PART: Schema = {
    **{name: SCHEMA[name] for name in ("solved", "exact", "cell_accuracy", *SCALARS[1:])},
    "pooled": (np.float16, ("puzzles", "segments", "numbers")),
}
"""What `record` gives."""

_BARREN = 20
"""Puzzles drawn for each one wanted, after which there seem to be no more that differ."""


@dataclass(frozen=True, eq=False)
class World:
    """Puzzles of one kind.

    Attributes:
        agent: whose network and family.
        draw: puzzle k of the stream; IndexError or ValueError past its end.
        puzzles: how many different ones are wanted.
    """

    agent: HRMAgent
    draw: Callable[[int], Puzzle]
    puzzles: int


@dataclass(frozen=True, eq=False)
class _Chosen:
    """The puzzles of a world: no two are symmetric images of each other."""

    puzzles: list[Puzzle]
    index: list[int]


class BankBuild:
    """The building of one bank.

    Attributes:
        total: blocks in all.
        resumed: whether blocks of an earlier start were found.
    """

    def __init__(
        self, path: Path, worlds: Sequence[World], recipe: Mapping[str, Any], segments: int, block: int, dims: int
    ) -> None:
        """Choose the puzzles, and take up what an earlier start has left.

        Args:
            path: the file that is built; `<path>.partial/` holds what is finished.
            worlds: whose puzzles, in order.
            recipe: all that the bank depends on, as JSON; its `created` is kept from the first start.
            segments: K, recorded for every puzzle.
            block: puzzles that are thought through at a time and saved together.
            dims: D, numbers of the state summary.

        Raises:
            ValueError: the folder was begun by another recipe, or a number is out of range.
        """
        for name, value, least in (("max_segments", segments, 1), ("batch", block, 1), ("state_dims", dims, 0)):
            if value < least:
                raise ValueError(f"expected {name} of at least {least}, got {value}")
        self.path, self.segments, self.dims = path, segments, dims
        self.place = path.with_name(f"{path.name}.partial")
        self.recipe = self._begun(json.loads(json.dumps(dict(recipe))))
        seen: set[bytes] = set()
        self._chosen = [_choose(world, seen) for world in worlds]
        self._worlds = worlds
        self._blocks = [
            (number, slice(first, first + block))
            for number, chosen in enumerate(self._chosen)
            for first in range(0, len(chosen.puzzles), block)
        ]
        self.total = len(self._blocks)
        self.resumed = any(self._part(k).exists() for k in range(self.total))

    @property
    def puzzles(self) -> int:
        """The puzzles that were found; fewer than wanted where there are no more that differ."""
        return sum(len(chosen.puzzles) for chosen in self._chosen)

    def run(self) -> Iterator[int]:
        """Think through what is missing; yields the number of finished blocks after each, those found included."""
        for k, (number, rows) in enumerate(self._blocks):
            if not self._is_whole(k):
                world, chosen = self._worlds[number], self._chosen[number]
                part = record(world.agent, chosen.puzzles[rows], self.segments)
                write_npz(self._part(k), part, compressed=False)
            yield k + 1

    def finish(self) -> None:
        """Write the bank from its parts atomically, and delete the folder of parts.

        Raises:
            ValueError: a split would be empty.
        """
        arrays = self._joined()
        from_arrays(arrays)
        write_npz(self.path, arrays)
        delete_folder(self.place)

    def _is_whole(self, k: int) -> bool:
        """Whether a block is finished and undamaged."""
        try:
            return self._part(k).exists() and bool(read_npz(self._part(k), PART))
        except ValueError as error:
            logger.warning("%s; it is made again", error)
            return False

    def _joined(self) -> Arrays:
        parts = [read_npz(self._part(k), PART) for k in range(self.total)]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        counts = [len(chosen.puzzles) for chosen in self._chosen]
        arrays["test"] = np.array(
            [
                is_test(world.agent.family, puzzle, self.recipe["test_share"])
                for world, chosen in zip(self._worlds, self._chosen, strict=True)
                for puzzle in chosen.puzzles
            ],
            np.bool_,
        )
        if len(set(arrays["test"].tolist())) < 2:
            raise ValueError(f"expected puzzles for both splits, got {sum(counts)} that all fell into one split")
        arrays["world"] = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
        arrays["index"] = np.array([k for chosen in self._chosen for k in chosen.index], np.int32)
        arrays["difficulty"] = np.array(
            [
                difficulty(world.agent.family, puzzle)
                for world, chosen in zip(self._worlds, self._chosen, strict=True)
                for puzzle in chosen.puzzles
            ],
            np.float32,
        )
        pooled = arrays.pop("pooled").astype(np.float32)
        arrays["basis"], arrays["centre"] = principal(pooled[~arrays["test"]], self.dims)
        arrays["state"] = summary(pooled, arrays["basis"], arrays["centre"])
        about = {"format_version": FORMAT_VERSION, **self.recipe}
        return arrays | {"about": np.array(json.dumps(about, sort_keys=True))}

    def _part(self, k: int) -> Path:
        return self.place / f"block-{k:06d}.npz"

    def _begun(self, recipe: dict[str, Any]) -> dict[str, Any]:
        """The recipe in the folder of parts, if it is this one; else this one, written there."""
        sweep(self.path.parent, self.path.name)
        sweep(self.place)
        note = self.place / RECIPE
        if note.exists():
            try:
                begun = read_json(note)
            except ValueError:
                begun = None
            if not isinstance(begun, dict):
                raise ValueError(f"{note} is no readable recipe; remove the folder {self.place} to start again")
            names = sorted({*begun, *recipe} - {"created", "command"})
            if different := [name for name in names if begun.get(name) != recipe.get(name)]:
                raise ValueError(
                    f"{self.place} was begun with another {different[0]}; give the arguments it was begun with, "
                    "another --out, or remove that folder"
                )
            return dict(begun)
        if self.place.is_dir():
            check_ours(self.place)
        write_atomically(note, json.dumps(recipe, indent=1) + "\n")
        return recipe


def _choose(world: World, seen: set[bytes]) -> _Chosen:
    """The first `world.puzzles` of the stream of which no symmetric image came before; `seen` is added to."""
    chosen = _Chosen([], [])
    for k in range(_BARREN * world.puzzles):
        if len(chosen.puzzles) == world.puzzles:
            break
        try:
            puzzle = world.draw(k)
        except (IndexError, ValueError):
            if not chosen.puzzles:
                raise
            break
        digest = puzzle_digest(world.agent.family, puzzle)
        if digest not in seen:
            seen.add(digest)
            chosen.puzzles.append(puzzle)
            chosen.index.append(k)
    return chosen


def principal(pooled: NDArray[np.float32], dims: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The leading principal components of states, scaled to deviation 1.

    Args:
        pooled: (M, K, P) float32.
        dims: D, at most P are given.

    Returns:
        (D, P) float32 basis and (P,) float32 centre. The largest weight of a component is positive.
    """
    flat = pooled.reshape(-1, pooled.shape[-1]).astype(np.float64)
    centre = flat.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(flat - centre, rowvar=False).reshape(len(centre), len(centre)))
    order = np.argsort(values)[::-1][:dims]
    basis = vectors[:, order].T / np.sqrt(np.maximum(values[order], 1e-12))[:, None]
    largest = np.abs(basis).argmax(axis=1)[:, None] if len(basis) else np.zeros((0, 1), np.int64)
    basis *= np.sign(np.take_along_axis(basis, largest, axis=1))
    return basis.astype(np.float32), centre.astype(np.float32)


def summary(
    pooled: NDArray[np.float32], basis: NDArray[np.float32], centre: NDArray[np.float32]
) -> NDArray[np.float16]:
    """(M, K, D) float16: what an observation says of (M, K, P) states."""
    return np.clip((pooled - centre) @ basis.T, -STATE_LIMIT, STATE_LIMIT).astype(np.float16)
