"""Test-time adaptation: the demonstrations of a task that was never seen train its puzzle embedding before it answers.

This is training in small (HRM paper, section 3.1, and its `evaluate.py`, where the demonstrations of the evaluation
tasks are part of the training data): every symmetric image of the task gets a puzzle vector of its own, which learns
from the images of the demonstrations by deep supervision. With `whole` a copy of the network learns along. What is done
with it is in `adapting_agent.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hrm_gym.agents.hrm import act
from hrm_gym.agents.hrm.images import images_of
from hrm_gym.agents.hrm.losses import IGNORE, segment_losses
from hrm_gym.agents.hrm.network import HRM
from hrm_gym.agents.hrm.optim import AdamATan2, sign_sgd_rows, sum_by_row
from hrm_gym.envs.puzzle import PuzzleFamily


@dataclass(frozen=True)
class Adaptation:
    """How a task is learnt at test time.

    Attributes:
        updates: optimiser updates, each one segment of `batch` boards; 0 leaves the vectors as they begin.
        batch: boards under way at once.
        puzzle_lr: learning rate of the puzzle vectors (SignSGD), the one of training on ARC.
        puzzle_weight_decay: its decay.
        whole: whether a copy of the network learns too; it is dropped when the task is answered.
        lr: learning rate of that copy (AdamATan2).
        weight_decay: its decay.
        known: begin with the rows of the puzzle embedding that belong to a task, if it has any, instead of zeros: then
            it goes on learning a task that was seen, demonstrations alone, in training.
        compile: compile what learns; pays for a dozen tasks or more.
        seed: of the order of the demonstrations.
    """

    updates: int = 300
    batch: int = 16
    puzzle_lr: float = 1e-2
    puzzle_weight_decay: float = 0.1
    whole: bool = False
    lr: float = 1e-4
    weight_decay: float = 0.1
    known: bool = False
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.updates < 0 or self.batch < 1 or self.seed < 0:
            raise ValueError(
                f"expected updates >= 0, batch >= 1 and seed >= 0, got {self.updates}, {self.batch} and {self.seed}"
            )
        if not (self.puzzle_lr > 0 and self.lr > 0):
            raise ValueError(f"expected positive learning rates, got {self.puzzle_lr} and {self.lr}")


class Adapted(NamedTuple):
    """What came of a task.

    Attributes:
        model: the network that was given, or with `whole` a copy that learnt.
        vectors: (K, embedding_dim) float32, a puzzle vector for every image.
        losses: the mean loss of a board's answer at every update.
    """

    model: HRM
    vectors: Tensor
    losses: list[float]


def adapt(model: HRM, examples: act.Boards, start: Tensor, settings: Adaptation) -> Adapted:
    """Learn a task from solved examples; the network that is given stays as it is.

    Args:
        model: on the device of the examples.
        examples: at least one; `puzzle_ids` are the numbers of their images, 0 … K - 1.
        start: (K, embedding_dim) float32, the vectors before.
        settings: how.

    Raises:
        ValueError: there is nothing that could learn: no puzzle embedding, and not `whole`.
    """
    if not (model.config.embedding_dim or settings.whole):
        raise ValueError("expected a network with a puzzle embedding, or whole=True: nothing else can learn the task")
    if settings.whole:
        model = _copy(model)
        if settings.compile:
            model.compile_levels(dynamic=False)
    named = [p for name, p in model.named_parameters() if name != "puzzles"]
    optimizer = AdamATan2(named, lr=settings.lr, weight_decay=settings.weight_decay) if settings.whole else None
    device = examples.inputs.device
    vectors = start.to(device, copy=True)
    slots, losses = act.Slots.waiting(model, settings.batch, device), []
    draw = torch.Generator().manual_seed(settings.seed)
    for _ in range(settings.updates):
        chosen = torch.randint(len(examples.inputs), (settings.batch,), generator=draw).to(device)
        slots.refill(model, act.Boards(*(part[chosen] for part in examples)))
        losses.append(_update(model, optimizer, vectors, slots, settings, draw))
    return Adapted(model.eval().requires_grad_(False) if settings.whole else model, vectors, losses)


def _copy(model: HRM) -> HRM:
    """The network with trainable parameters of its own, and with nothing but one row of the puzzle embedding."""
    copy = HRM(dataclasses.replace(model.config, puzzle_count=1)).to(model.puzzles.device)
    copy.load_state_dict({**model.state_dict(), "puzzles": model.puzzles[:1]})
    return copy


def _update(
    model: HRM,
    optimizer: AdamATan2 | None,
    vectors: Tensor,
    slots: act.Slots,
    settings: Adaptation,
    draw: torch.Generator,
) -> float:
    """One segment on every slot, its losses, and one update of the vectors (and of the network, if it learns)."""
    config, boards = model.config, slots.boards
    puzzles = vectors[boards.puzzle_ids.long()].requires_grad_()
    result = model.run(slots.carry, boards.inputs, puzzles)
    slots.segments = slots.segments + 1
    explored = act.draw_exploration(config, settings.batch, draw)
    exploration = act.Exploration(*(part.to(vectors.device) for part in explored))
    slots.halted = act.training_halt(config, slots.segments, result, exploration)
    target = None
    if config.halting == "q_learning":
        target = act.continue_target(model, result, slots.segments, boards.inputs, puzzles)
    losses = segment_losses(result.logits, boards.labels, result.q_halt, result.q_continue, target)
    (losses.total / settings.batch).backward()
    slots.carry = result.carry
    if puzzles.grad is not None:
        rows, sums = sum_by_row(boards.puzzle_ids, puzzles.grad)
        sign_sgd_rows(vectors, rows, sums, settings.puzzle_lr, settings.puzzle_weight_decay)
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return float(losses.answer.detach()) / settings.batch


def examples_of(
    family: PuzzleFamily, pairs: NDArray[np.uint8], keys: Sequence[int | None], device: torch.device
) -> act.Boards:
    """(P, 2, H, W) demonstrations under every image, P * (1 + K) boards; `puzzle_ids` tell the image."""
    count, side = len(pairs), pairs.shape[2] * pairs.shape[3]
    inputs, labels = (images_of(family, pairs[:, part], keys).reshape(-1, side) for part in (0, 1))
    ids = torch.arange(1 + len(keys), dtype=torch.int32).repeat(count)
    tokens, wanted = (torch.from_numpy(boards).to(device, torch.int32) for boards in (inputs, labels))
    return act.Boards(tokens, torch.where(wanted == 0, IGNORE, wanted), ids.to(device))
