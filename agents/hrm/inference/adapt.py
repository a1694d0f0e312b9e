"""Test-time adaptation: the demonstrations of a task that was never seen train its puzzle embedding before it answers.

This is training in small (HRM paper, section 3.1, and its `evaluate.py`, where the demonstrations of the evaluation
tasks are part of the training data): every symmetric image of the task gets its own puzzle vector, which learns
from the images of the demonstrations by deep supervision. With `whole` a copy of the network learns along.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hrm_gym.agents.agent import Observation, StatefulAgent, as_batch
from hrm_gym.agents.answer_to_action import answers_to_actions
from hrm_gym.agents.hrm.accelerate import accelerate
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.feed import draw_placements, place_grids
from hrm_gym.agents.hrm.halting import certainty
from hrm_gym.agents.hrm.images import answers_back, distinct_keys, images_of
from hrm_gym.agents.hrm.inference.vote import Votes, decide_by_outline, joined
from hrm_gym.agents.hrm.losses import IGNORE, segment_losses
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.optim import AdamATan2, muon_for, sign_sgd_rows, sum_by_row
from hrm_gym.agents.hrm.slots import Examples, Exploration, Slots, continue_target, draw_exploration, training_halt
from hrm_gym.agents.hrm.task_rows import Keys, TaskRows
from hrm_gym.agents.hrm.thinking import Rules, finish, think
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Thought

OPTIMIZERS = ("adam_atan2", "muon")
"""Of a network that learns along."""

VOTES = 8
"""Images of a task, unless the network has rows for fewer."""


@dataclass(frozen=True)
class Adaptation:
    """How a task is learnt at test time.

    The defaults suit the bundled ARC network: they were chosen on training tasks that such a network had not learnt
    (docs/experiments.md, 2026-11-28). The paper's way, with the network as it is, is `whole=False, known=False`.

    Attributes:
        updates: optimiser updates, each one segment of `batch` boards; 0 leaves the vectors as they begin.
        batch: boards at once.
        puzzle_lr: learning rate of the puzzle vectors (SignSGD), the one of training on ARC.
        puzzle_weight_decay: its decay.
        whole: whether a copy of the network learns too; it is dropped when the task is answered.
        lr: learning rate of that copy.
        optimizer: of that copy, "adam_atan2" or "muon". Muon fits the demonstrations in fewer updates.
        weight_decay: its decay.
        known: begin with the rows of the puzzle embedding that belong to a task, if it has any, instead of zeros: then
            it continues to learn a task that was seen, demonstrations alone, in training.
        compile: compile what learns; pays for a dozen tasks or more.
        shift: shift most demonstrations on their boards, input and output together (`draw_placements`), so that what is
            learnt does not depend on where things lie.
        seed: of the order of the demonstrations, and of their shifts.
        snapshots: times at which what has been learnt answers, at equal distances, the last of them after the last
            update; all answers vote. None: once in ten updates.
    """

    updates: int = 120
    batch: int = 32
    puzzle_lr: float = 1e-2
    puzzle_weight_decay: float = 0.1
    whole: bool = True
    lr: float = 5e-3
    optimizer: str = "muon"
    weight_decay: float = 0.1
    shift: bool = True
    known: bool = True
    compile: bool = False
    seed: int = 0
    snapshots: int | None = None

    def __post_init__(self) -> None:
        if self.updates < 0 or self.batch < 1 or self.seed < 0:
            raise ValueError(
                f"expected updates >= 0, batch >= 1 and seed >= 0, got {self.updates}, {self.batch} and {self.seed}"
            )
        if not (self.puzzle_lr > 0 and self.lr > 0):
            raise ValueError(f"expected positive learning rates, got {self.puzzle_lr} and {self.lr}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"expected optimizer to be {' or '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        if not 1 <= self.answers <= max(self.updates, 1):
            raise ValueError(f"expected snapshots of 1 to the {self.updates} updates, got {self.snapshots}")

    @property
    def answers(self) -> int:
        """The number of snapshots."""
        return max(self.updates // 10, 1) if self.snapshots is None else self.snapshots


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


def adapt(model: HRM, examples: Examples, start: Tensor, settings: Adaptation) -> Iterator[Adapted]:
    """Learn a task from solved examples; the given network is not changed.

    Args:
        model: on the device of the examples.
        examples: at least one; `puzzle_ids` are the numbers of their images, 0 … K - 1.
        start: (K, embedding_dim) float32, the vectors before.
        settings: how.

    Yields:
        What has been learnt at each of the snapshots. It learns on in place: use one before the next is asked for.

    Raises:
        ValueError: there is nothing that could learn: no puzzle embedding, and not `whole`.
    """
    if not (model.config.embedding_dim or settings.whole):
        raise ValueError("expected a network with a puzzle embedding, or whole=True: nothing else can learn the task")
    if settings.whole:
        model = accelerate(_copy(model), settings.compile, dynamic=False)
    optimizer = _optimizer(model, settings) if settings.whole else None
    device = examples.inputs.device
    vectors = start.to(device, copy=True)
    slots, losses = Slots.waiting(model, settings.batch, device), []
    draw = torch.Generator().manual_seed(settings.seed)
    distance = max(settings.updates // settings.answers, 1)
    for left in reversed(range(settings.updates)):
        chosen = torch.randint(len(examples.inputs), (settings.batch,), generator=draw).to(device)
        boards = Examples(*(part[chosen] for part in examples))
        slots.refill(model, shifted_boards(boards, model.config.grid, draw) if settings.shift else boards)
        losses.append(_update(model, optimizer, vectors, slots, settings, draw))
        if left % distance == 0 and 0 < left // distance < settings.answers:
            yield Adapted(model, vectors, losses)
    yield Adapted(model.eval().requires_grad_(False) if settings.whole else model, vectors, losses)


def _copy(model: HRM) -> HRM:
    """A trainable copy of the network, with only one row of the puzzle embedding."""
    copy = HRM.from_state(dataclasses.replace(model.config, puzzle_count=1)).to(model.puzzles.device)
    copy.load_state_dict({**model.state_dict(), "puzzles": model.puzzles[:1]})
    return copy


def _optimizer(model: HRM, settings: Adaptation) -> torch.optim.Optimizer:
    named = [(name, p) for name, p in model.named_parameters() if name != "puzzles"]
    if settings.optimizer == "muon":
        return muon_for(named, lr=settings.lr, weight_decay=settings.weight_decay)[0]
    return AdamATan2([p for _, p in named], lr=settings.lr, weight_decay=settings.weight_decay)


def shifted_boards(boards: Examples, grid: tuple[int, int], draw: torch.Generator) -> Examples:
    """Boards of ARC, most of them shifted, input and output together, as far as the larger grid leaves room.

    Args:
        boards: grids top left, framed by end tokens.
        grid: (H, H) of the boards.
        draw: where the shifts come from.
    """
    count = len(boards.inputs)
    wanted = boards.labels.masked_fill(boards.labels == IGNORE, 0)
    inputs, labels = (part.view(-1, *grid) for part in (boards.inputs, wanted))
    shifts = torch.randint(2**62, (count,), generator=draw).tolist()
    placements = draw_placements(inputs, labels, [None] * count, shifts)
    inputs, labels = (place_grids(placements, part).flatten(1) for part in (inputs, labels))
    return Examples(inputs, labels.masked_fill(labels == 0, IGNORE), boards.puzzle_ids)


@torch.enable_grad()
def _update(
    model: HRM,
    optimizer: torch.optim.Optimizer | None,
    vectors: Tensor,
    slots: Slots,
    settings: Adaptation,
    draw: torch.Generator,
) -> float:
    """One segment on every slot, its losses, and one update of the vectors (and of the network, if it learns)."""
    config, boards = model.config, slots.boards
    puzzles = vectors[boards.puzzle_ids.long()].requires_grad_()
    result = model.run(slots.carry, boards.inputs, puzzles)
    slots.segments = slots.segments + 1
    explored = draw_exploration(config, settings.batch, draw)
    exploration = Exploration(*(part.to(vectors.device) for part in explored))
    slots.halted = training_halt(config, slots.segments, result, exploration)
    target = None
    if config.halting == "q_learning":
        target = continue_target(model, result, slots.segments, boards.inputs, puzzles)
    losses = segment_losses(result.logits, boards.labels, result.q_halt, result.q_continue, target)
    (losses.total / settings.batch).backward()
    slots.carry = result.carry
    if puzzles.grad is not None:
        places, sums = sum_by_row(boards.puzzle_ids, puzzles.grad)
        sign_sgd_rows(vectors, boards.puzzle_ids, sums[places], settings.puzzle_lr, settings.puzzle_weight_decay)
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return float(losses.answer.detach()) / settings.batch


def examples_of(
    family: PuzzleFamily, pairs: NDArray[np.uint8], keys: Sequence[int | None], device: torch.device
) -> Examples:
    """(P, 2, H, W) demonstrations under every image, P * (1 + K) boards; `puzzle_ids` tell the image."""
    count, side = len(pairs), pairs.shape[2] * pairs.shape[3]
    inputs, labels = (images_of(family, pairs[:, part], keys).reshape(-1, side) for part in (0, 1))
    ids = torch.arange(1 + len(keys), dtype=torch.int32).repeat(count)
    tokens, wanted = (torch.from_numpy(boards).to(device, torch.int32) for boards in (inputs, labels))
    return Examples(tokens, torch.where(wanted == 0, IGNORE, wanted), ids.to(device))


@dataclass(frozen=True, eq=False)
class Answered:
    """The answers to B puzzles that were thought of before the first action. `answered[rows]` keeps some of the boards.

    Attributes:
        answers: (B, A, H, W) uint8, one for each attempt.
        confidence: (B, H, W) float32, the share of the votes that agree with the first.
        q_halt: (B,) float32.
        spent: (B,) int64, segments of single boards, those of learning included.
    """

    answers: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    q_halt: NDArray[np.float32]
    spent: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, rows: NDArray[np.int64]) -> Answered:
        return Answered(self.answers[rows], self.confidence[rows], self.q_halt[rows], self.spent[rows])


class AdaptingAgent(StatefulAgent):
    """An HRM that learns every task from its demonstrations before it answers, and lets symmetric images vote.

    It needs observations with demonstrations (ARC). All is thought when a puzzle begins; then the best answer is given
    at once, and the second best in the second attempt. What was learnt is a function of the observation and the
    settings alone, and it is forgotten afterwards.

    Attributes:
        name: what tables call it.
        action_mode: "answer", "cell" or "move".
        member: the network.
        settings: how a task is learnt.
        keys: of the symmetries; the first image is the task itself. With `known`, tasks with official rows of their
            own have keys of their own.
        losses: of the last adaptation, one an update.
    """

    warm_up = False
    """To try it out before the clock starts would learn every task twice."""
    most_boards = 1
    """Every task is learnt separately, so a batch would only delay its first answer."""

    def __init__(
        self, member: HRMAgent, votes: int | None = None, settings: Adaptation | None = None, name: str = ""
    ) -> None:
        """Make the agent of a network.

        Args:
            member: the network, its halting rule and its limit of segments.
            votes: symmetric images of every task, the task itself included, at least 1. None: `VOTES`, or with
                `known` the images that the network has rows for, if they are fewer.
            settings: how a task is learnt.
            name: what tables call it.

        Raises:
            ValueError: fewer than one image, or more than there are symmetries (with `known`: than have rows).
        """
        if votes is not None and votes < 1:
            raise ValueError(f"expected votes of at least 1, got {votes}")
        self.member, self.settings = member, settings or Adaptation()
        accelerate(member.model, self.settings.compile)
        self.family, self.action_mode = member.family, member.action_mode
        self.grid, self.vocab_size, self.weights = member.grid, member.vocab_size, member.weights
        rows = member.task_rows
        if self.settings.known and isinstance(rows, TaskRows) and rows.variants:
            self.keys: Keys = rows.keys((votes or min(VOTES, 1 + rows.variants)) - 1)
        else:
            self.keys = distinct_keys(self.family, member.model.config.grid, (votes or VOTES) - 1)
        self.name = name or f"hrm-adapt-{1 + len(self.keys)}"
        self.losses: list[float] = []
        self._thoughts: list[Thought] | None = None
        self._spent: NDArray[np.int64] = np.zeros(0, np.int64)

    @classmethod
    def for_env(
        cls, env: gym.Env[Any, Any], weights: Path | str | None = None, votes: int | None = None, **kwargs: Any
    ) -> AdaptingAgent:
        """The agent for an environment; fields of `Adaptation` by name, the others as `HRMAgent.for_env`.

        Raises:
            ValueError: as `HRMAgent.for_env`, or the environment shows no demonstrations.
        """
        if "demonstrations" not in getattr(env.observation_space, "spaces", {}):
            raise ValueError(f"expected an environment that shows demonstrations (ARC), got {env.unwrapped}")
        fields = {field.name for field in dataclasses.fields(Adaptation)} & kwargs.keys()
        settings = Adaptation(**{name: kwargs.pop(name) for name in fields})
        return cls(HRMAgent.for_env(env, weights, **kwargs), votes, settings)

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """As `StatefulAgent.predict`; ValueError also for an observation without demonstrations."""
        as_batch(observation, ("puzzle", "answer", "task", "demonstrations", "pairs"))
        return super().predict(observation, state, episode_start, deterministic)

    def decide(
        self, observation: Observation, state: Answered | None, starts: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Answered]:
        """Tasks that begin are learnt and answered; the answer of the present attempt is given."""
        rows = np.arange(len(starts))
        parts: list[Answered] = []
        for row in rows:
            if state is None or starts[row]:
                parts.append(self._answer({key: value[row] for key, value in observation.items()}))
            else:
                parts.append(state[rows[row : row + 1]])
        names = [field.name for field in dataclasses.fields(Answered)]
        state = Answered(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
        attempts = observation["attempt"].reshape(-1) if "attempt" in observation else 0
        shown = state.answers[rows, attempts]
        self._spent, votes = state.spent, self.settings.answers * (1 + len(self.keys))
        self._thoughts = [
            Thought(
                shown[i],
                state.confidence[i],
                float(state.q_halt[i]),
                segment=int(state.spent[i]),
                reason=f"learnt the task for {self.settings.updates} updates, then voted: halts",
                event="halts",
                facts=(("Votes", str(votes)), ("Segments in all", str(state.spent[i]))),
            )
            for i in rows
        ]
        return answers_to_actions(self.family, self.action_mode, observation, shown, True), state

    def thoughts(self) -> list[Thought] | None:
        """What the agent had in mind at the last `predict`, one Thought a board."""
        return self._thoughts

    def spent(self) -> NDArray[np.int64]:
        """(B,) segments of single boards run for each board of the last `predict`, those of learning included."""
        return self._spent

    @property
    def halting_rules(self) -> str:
        """Those of the network, and what helps it."""
        learnt = f"adaptation {self.settings.updates} updates" + (" of all weights" if self.settings.whole else "")
        learnt += " with shifts" if self.settings.shift else ""
        votes = f"votes {1 + len(self.keys)}" + (f" x {self.settings.answers}" if self.settings.answers > 1 else "")
        return f"{Rules(self.member.halting, self.member.max_segments)} + {learnt} + {votes}"

    # ---- thinking ----

    @torch.inference_mode(False)  # what learns needs gradients, wherever it is called from
    def _answer(self, observation: Observation) -> Answered:
        """Learn the task of one observation and answer it."""
        pairs = observation["demonstrations"][: int(observation["pairs"].item())]
        settings = dataclasses.replace(self.settings, seed=self.settings.seed ^ zlib.crc32(pairs.tobytes()))
        if len(pairs) == 0:
            settings = dataclasses.replace(settings, updates=0, snapshots=None)
        keys = self._keys_of(observation)
        examples = examples_of(self.family, pairs, keys, self.member.device)
        clues, votes = observation["puzzle"][None], []
        for learnt in adapt(self.member.model, examples, self._start(observation), settings):
            votes.append(self._votes(clues, keys, learnt))
            self.losses = learnt.losses
        all_votes = joined(votes)
        spent = all_votes.segments.sum(axis=1) + settings.updates * settings.batch
        best = decide_by_outline(self.family, clues, all_votes)
        return Answered(best.answers, best.confidence, best.q_halt, spent)

    def _keys_of(self, observation: Observation) -> Keys:
        """The keys of the images of a task."""
        own = None
        if self.settings.known:
            own = self.member.task_rows.keys_of(self.family, int(observation["task"].item()), len(self.keys))
        return own or self.keys

    def _start(self, observation: Observation) -> Tensor:
        """(1 + K, embedding_dim) vectors of the task's images before it is learnt."""
        model, images = self.member.model, np.arange(1 + len(self.keys))
        if not self.settings.known:
            return torch.zeros(len(images), model.config.embedding_dim, dtype=torch.float32)
        task = np.full(len(images), int(observation["task"].item()))
        rows = self.member.task_rows.rows(task, images, model.config.puzzle_count)
        return model.puzzles[torch.from_numpy(rows).long()]

    def _votes(self, clues: NDArray[np.uint8], keys: Keys, learnt: Adapted) -> Votes:
        """The answers to the images of one puzzle, (1, H, W), each with its vector."""
        images = images_of(self.family, clues, keys)
        member, shape = self.member, images.shape
        boards = member.boards(images[0])
        rules = Rules(member.halting, member.max_segments)
        every = rules.max_segments  # a batch of one size throughout: others would be compiled one by one
        found = finish(think(learnt.model, boards, rules, vectors=learnt.vectors, every=every))
        return Votes(
            answers_back(self.family, found.answers.cpu().numpy().reshape(shape), keys),
            found.q_halt.cpu().numpy()[None],
            certainty(found.confidence, boards.free)[1].cpu().numpy()[None],
            found.segments.cpu().numpy().astype(np.int64)[None],
            np.ones(shape[:2], np.bool_),
        )
