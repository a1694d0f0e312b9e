"""Fit the Q-head of a finished HRM again: everything else stays, so that its answers do not change.

`python -m hrm_gym.scripts.experiments.fit_q_head --help`
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
import tyro

from hrm_gym.agents.checkpoint import write_folder
from hrm_gym.agents.hrm import thinking
from hrm_gym.agents.hrm.agent import IMAGES
from hrm_gym.agents.hrm.hub import Pretrained, load_pretrained
from hrm_gym.agents.hrm.images import Turns
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.run_folder import with_fresh_q_head, write_model
from hrm_gym.data.stream import PuzzleStream
from hrm_gym.files import check_ours
from hrm_gym.scripts.options import parse
from hrm_gym.scripts.output import progress_bar

TRAINED_ON: dict[str, tuple[dict[str, Any], ...]] = {
    "sudoku": tuple({"id": "HRMSudoku-v0", "difficulty": name} for name in ("easy", "medium", "hard", "extreme")),
    "maze": (
        {"id": "HRMMaze-v0", "size": 8},
        {"id": "HRMMaze-v0", "size": 12},
        {"id": "HRMMaze-v0", "size": 16},
        {"id": "HRMMaze-v0", "size": 20},
        {"id": "HRMMaze-v0", "size": 24, "min_path": 40, "wall_share": 0.37},
        {"id": "HRMMaze-v0", "size": 30},
        {"id": "HRMMaze-v0", "size": 30, "min_path": 60},
        {"id": "HRMMaze-v0", "size": 30, "min_path": 80, "wall_share": 0.37},
    ),
}
"""The kinds of puzzles by family: arguments of `gym.make`. They take turns."""


@dataclass(frozen=True)
class FitConfig:
    """Fit a Q-head to what a finished HRM does over many segments: is the answer after this segment right?

    The network runs on puzzles of the train split, without halting; boards start again after a random number of
    segments, half of them on another start or symmetric image, as restarts do. The cross-entropy of Q(halt) is all
    that is minimised. Choose a threshold with own_decision afterwards.

    Attributes:
        weights: Folder of weights whose network is to be judged.
        out: Folder for the weights with the new Q-head.
        features: What the Q-head reads, see HRMConfig.q_features.
        updates: Updates, each after one segment of one kind of puzzle.
        batch: Boards of each kind.
        life: Segments after which a board is replaced, in the mean.
        lr: Peak learning rate of Adam; falls to zero.
        seed: Of puzzles, lives and starts.
        threads: CPU threads.
    """

    weights: Path
    out: Path
    features: Annotated[str, tyro.conf.arg(metavar="{mean,worst,local}")] = "worst"
    updates: int = 6000
    batch: int = 16
    life: float = 40.0
    lr: float = 3e-3
    seed: int = 11
    threads: int = 1


class Kind:
    """Active boards of one kind: their puzzles and the states of the network on them."""

    def __init__(self, model: HRM, options: dict[str, Any], config: FitConfig, seed: int) -> None:
        world: Any = gym.make(disable_env_checker=True, source="generate", split="train", **options).unwrapped
        self.family, grid = world.family, tuple(world.shape)
        self.model = model.on_grid(grid)
        if self.model is not model:  # one Q-head for all sizes
            self.model.q_head = model.q_head
            if hasattr(model, "q_readout"):
                self.model.q_readout = model.q_readout
        self.stream, self.fed, self.count = PuzzleStream(world.puzzle_source, seed), config.batch, config.batch
        self.random = np.random.default_rng(seed)
        self.change = 1 / config.life
        self.batch = self.stream.take(0, self.count)
        self.carry = self.model.initial_carry(self.count)
        self.turns = Turns(self.family, grid, 1 if model.config.by_symbol else IMAGES, torch.device("cpu"))
        self.image = torch.zeros(self.count, dtype=torch.int64)

    def segment(self) -> tuple[torch.Tensor, torch.Tensor]:
        """One more segment: Q(halt) logits (B,), with gradient, and (B,) whether the answers are right."""
        with torch.no_grad():
            self._replace()
            inputs = torch.from_numpy(self.batch.clues.reshape(self.count, -1)).to(torch.int32)
            turned = inputs if self.turns.count == 1 else self.turns.images(inputs, self.image)
            x = self.model.embed(turned, self.model.puzzles[torch.zeros(self.count, dtype=torch.int64)])
            self.carry = self.model.advance(self.carry, x)
            logits = self.model.answer_logits(self.carry.z_h)
            if self.turns.count > 1:
                logits = self.turns.back(logits, self.image)
            answers = thinking.read_answer(logits)[0].numpy().reshape(self.batch.clues.shape)
            right = self.family.judge(self.batch.clues, self.batch.solutions, answers)
        return self.model.q_values(self.carry.z_h)[0], torch.from_numpy(right)

    def _replace(self) -> None:
        new = np.flatnonzero(self.random.random(self.count) < self.change)
        if not len(new):
            return
        fresh = self.stream.take(self.fed, len(new))
        self.fed += len(new)
        for name in ("clues", "solutions", "puzzle_ids"):
            getattr(self.batch, name)[new] = getattr(fresh, name)
        rows = torch.zeros(self.count, dtype=torch.bool)
        rows[torch.from_numpy(new)] = True
        again = torch.from_numpy(self.random.random(self.count) < 0.5)
        starts = torch.from_numpy(self.random.integers(1, 2**31, self.count))
        images = torch.from_numpy(self.random.integers(0, self.turns.count, self.count))
        other_start = again & (starts % 2 == 0) | (again & (self.turns.count == 1))
        self.carry = self.model.reset_rows(self.carry, rows, torch.where(other_start, starts, 0))
        self.image = torch.where(rows, torch.where(again, images, 0), self.image)


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Returns:
        0.

    Raises:
        ValueError: a number out of range, or weights for which there are no kinds of puzzles.
        OSError: a file that cannot be read or written.
    """
    config = parse(FitConfig, "fit_q_head", argv)
    for name in ("updates", "batch", "threads"):
        if getattr(config, name) < 1:
            raise ValueError(f"expected --{name} of at least 1, got {getattr(config, name)}")
    if config.features not in ("mean", "worst", "local") or config.life < 1:
        raise ValueError(f"expected --features mean, worst or local and --life of at least 1, got {config}")
    check_ours(config.out)
    torch.set_num_threads(config.threads)
    found = load_pretrained(config.weights)
    model = fit(found, config)
    about = {**found.about, "q_head": {"fitted": config.updates, "seed": config.seed, "lr": config.lr}}
    write_folder(config.out, lambda folder: write_model(folder, model.state_dict(), model.config, about))
    return 0


def fit(found: Pretrained, config: FitConfig) -> HRM:
    """The network with a Q-head of its own config's or of other features, fitted; everything else is unchanged."""
    kinds_of = TRAINED_ON.get(found.about["family"])
    if kinds_of is None:
        raise ValueError(f"expected weights for {' or '.join(TRAINED_ON)}, got {found.about['family']}")
    model = with_features(found.model, config.features)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("q_"))
    kinds = [Kind(model, dict(options), config, config.seed + 1000 * k) for k, options in enumerate(kinds_of)]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=config.lr, betas=(0.9, 0.99))
    means = np.zeros((len(kinds), 3))
    bar = progress_bar(config.updates, "update")
    with bar:
        for update in range(config.updates):
            # falls linearly; every kind has the same share of every rate
            for group in optimizer.param_groups:
                group["lr"] = config.lr * min(1.0, (update + 1) / 100) * (1 - update / config.updates)
            k = update % len(kinds)
            q_halt, right = kinds[k].segment()
            loss = F.binary_cross_entropy_with_logits(q_halt, right.float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            agreed = ((q_halt > 0) == right).float().mean().item()
            means[k] = 0.98 * means[k] + 0.02 * np.array([loss.item(), right.float().mean().item(), agreed])
            bar.update(1)
            if (update + 1) % 500 == 0:
                debias = 1 - 0.98 ** ((update + 1) / len(kinds))
                shown = "; ".join("{:.3f} {:.2f} {:.3f}".format(*row) for row in means / debias)
                bar.write(f"update {update + 1}: loss, right, agreed by kind: {shown}", file=sys.stderr)
    return model.requires_grad_(False)


def with_features(model: HRM, features: Any) -> HRM:
    """The network with an untrained Q-head that reads `features`; itself where it reads them already."""
    if model.config.q_features == features:
        return model
    fresh = HRM.from_state(dataclasses.replace(model.config, q_features=features))
    fresh.load_state_dict(with_fresh_q_head(model.state_dict(), fresh))
    return fresh


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
