"""Runs an HRM over puzzles, no board ever halting, and keeps what a halting bank is made of."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hrm_gym.agents import pretrained
from hrm_gym.agents.hrm import act
from hrm_gym.agents.hrm.agent import Boards, HRMAgent
from hrm_gym.agents.hrm.halting import certainty
from hrm_gym.agents.hrm.hub import Pretrained, load_pretrained
from hrm_gym.agents.hrm.network import HRM
from hrm_gym.envs.halting.bank import LOGIT_LIMIT, SCALARS
from hrm_gym.envs.puzzle import Puzzle, PuzzleFamily

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
    model = HRM(dataclasses.replace(config, grid=(shape[0], shape[1])))
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


def is_test(digest: bytes, share: float) -> bool:
    """Whether a puzzle belongs to the test split of a bank; the same in every bank of that share."""
    return int.from_bytes(digest, "little") < share * 2.0**64


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
    boards = agent.boards(clues, np.array([[puzzle.puzzle_id] for puzzle in puzzles], np.int32))
    columns = []
    for answers, seen in _segments(agent, boards, segments):
        verdict = agent.family.verdict_many(clues, solutions, answers.reshape(clues.shape))
        told = {name: verdict[name] for name in ("solved", "exact", "cell_accuracy")}
        columns.append(told | seen)
    whole = {name: np.stack([column[name] for column in columns], axis=1) for name in columns[0]}
    return {name: part if part.dtype == np.bool_ else part.astype(np.float16) for name, part in whole.items()}


def _segments(agent: HRMAgent, boards: Boards, segments: int) -> Iterator[tuple[NDArray[np.uint8], Arrays]]:
    """The (B, S) answers after each segment, and the rest of what is recorded."""
    model, count = agent.model, len(boards.inputs)
    carry, x = model.initial_carry(count), model.embed(boards.inputs, model.puzzles[boards.puzzle_ids.long()])
    reading = act.Reading.nothing(count, boards.inputs.shape[1], agent.device)
    alone = model.config.halting == "bce"
    for _ in range(segments):
        carry = act.advance(model, carry, x)
        before, reading = reading.answers, reading.after(model.answer_logits(carry.z_h))
        q_halt, q_continue = model.q_values(carry.z_h)
        lowest, mean = certainty(reading.confidence, boards.free)
        altered = ((reading.answers != before) & boards.free).sum(1) / boards.free.sum(1).clamp(min=1)
        values = (q_halt, torch.zeros_like(q_halt) if alone else q_continue, _logit(mean), _logit(lowest), altered)
        cut = (value.clamp(-LOGIT_LIMIT, LOGIT_LIMIT) for value in values)
        seen = {name: value.cpu().numpy() for name, value in zip(SCALARS[1:], cut, strict=True)}
        seen["pooled"] = pooled(model, carry.z_h).cpu().numpy()
        yield reading.answers.cpu().numpy(), seen


def pooled(model: HRM, z_h: torch.Tensor) -> torch.Tensor:
    """(B, P) float32 of (B, T, D) states: the mean over the cells, then position 0, which the Q-head reads."""
    return torch.cat((z_h[:, model.config.prefix :].float().mean(dim=1), z_h[:, 0].float()), dim=1)


def _logit(probability: torch.Tensor) -> torch.Tensor:
    """log(p / (1 - p)), finite at 0 and 1 as well."""
    p = probability.double()
    return (torch.log(p.clamp(min=1e-9)) - torch.log((1 - p).clamp(min=1e-9))).float()
