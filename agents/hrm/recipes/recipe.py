"""A recipe: everything that decides the outcome of a training run, as one frozen dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import tyro

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.losses import AnswerLoss


@dataclass(frozen=True)
class Recipe:
    """One training run. Two runs of equal recipes on one machine end with equal weights.

    Attributes:
        env_id: environment whose puzzles are learnt.
        env: its constructor arguments; `source` and `split` are set by the recipe's own fields.
        source: "generate", "bank", or what the environment opens: a data file, a folder, the name of a data set.
        test_source: where held-out puzzles come from, likewise; "" takes the validation split, or the test split
            where there is no other; of the bank where `source` is a single file.
        puzzles: train on a fixed set of N puzzles, chosen by the seed; 0 takes all there are.
        mixture: further arguments of the environment; each training puzzle comes from one of them or from `env`. A
            `source` among them takes the place of the recipe's.
        other_sizes: further boards, learnt in turn with those of `env`, one group an update; each names its own `env`,
            and `mixture` and `batch_size` where they differ. For networks that play boards of every size.
        demonstrations: train on every solved example of tasks (ARC): all pairs of the train split, and the
            demonstrations of the test split.
        init: checkpoint folder, or name of bundled weights, whose weights the run starts from, e.g. one of smaller
            boards; "" for random weights.
        model: the network.
        loss: cross-entropy over the cells.
        halt_target: what Q(halt) learns to predict: that the answer is the stored one, or that it is solved by the
            rules of the puzzle, which may allow several answers (mazes).
        silent_segments: segments without loss and gradient in front of each one with; 0 supervises every segment.
        gradient_segments: consecutive segments of one update: the loss at each of them, and gradient through all. The
            paper's 1 cuts the gradient after every segment; more need a network that keeps it in whole segments.
        random_starts: standard deviation of normal noise on the initial states of every training puzzle, drawn from
            the seed and the puzzle's number (arXiv 2605.21488); 0 for the paper's fixed start.
        batch_size: active boards (slots); on the command line also `auto`, the largest power of two that fits memory.
        updates: optimiser updates, one a segment.
        optimizer: "adam_atan2" (the paper's), "adamw", or "muon" for the levels' matrices with Adam for the others.
        clip_norm: maximum gradient norm; 0 for none.
        lr: peak learning rate.
        lr_min_ratio: share of it that is left at the end; 1 keeps it constant, as the paper has it.
        lr_decay: learning-rate decay after the warm-up.
        warmup: updates of linear warm-up.
        betas: decay of Adam's averages.
        weight_decay: decoupled decay, on every parameter.
        puzzle_lr: learning rate of the puzzle embedding (SignSGD).
        puzzle_weight_decay: its decay.
        ema: decay of the weight average that is evaluated and saved; 0 for none.
        continue_every: updates between two extra forward passes for Q(continue)'s target; the paper's 1 costs a third.
        augment: put every board under a random symmetry of its family.
        variants: N fixed symmetries of each puzzle, next to the puzzle itself; 0 draws a new one every time.
        embed_variants: whether each variant of a puzzle has its own row of the puzzle embedding; variant k is then
            the same symmetry for all puzzles.
        place_grids: with `augment`, also turn, mirror and shift grids that are smaller than their boards (ARC).
        shift_grids: whether that shifts them.
        shown: probability that a training puzzle is partly filled in: of its blanks a random share shows the solution.
        seed: of weights, puzzles and exploration.
        eval_puzzles: held-out puzzles of an evaluation.
        test_puzzles: held-out puzzles of the evaluation at the end; 0 for `eval_puzzles`.
        eval_every: updates between evaluations.
        checkpoint_every: updates between checkpoints.
    """

    env_id: str
    model: HRMConfig
    env: tyro.conf.Fixed[Mapping[str, Any]] = field(default_factory=dict)
    source: str = "generate"
    test_source: str = ""
    puzzles: int = 0
    mixture: tyro.conf.Fixed[tuple[Mapping[str, Any], ...]] = ()
    other_sizes: tyro.conf.Fixed[tuple[Mapping[str, Any], ...]] = ()
    demonstrations: bool = False
    init: str = ""
    loss: AnswerLoss = "stablemax"
    halt_target: Literal["exact", "solved"] = "exact"
    silent_segments: int = 0
    gradient_segments: int = 1
    random_starts: float = 0.0
    batch_size: int = 768
    updates: int = 26_000
    optimizer: Literal["adam_atan2", "adamw", "muon"] = "adam_atan2"
    clip_norm: float = 0.0
    lr: float = 1e-4
    lr_min_ratio: float = 1.0
    lr_decay: Literal["cosine", "linear"] = "cosine"
    warmup: int = 2000
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1.0
    puzzle_lr: float = 1e-4
    puzzle_weight_decay: float = 1.0
    ema: float = 0.0
    continue_every: int = 1
    augment: bool = False
    variants: int = 0
    embed_variants: bool = False
    place_grids: bool = False
    shift_grids: bool = True
    shown: float = 0.0
    seed: int = 0
    eval_puzzles: int = 256
    test_puzzles: int = 0
    eval_every: int = 1000
    checkpoint_every: int = 1000

    def __post_init__(self) -> None:
        for name in ("batch_size", "updates", "continue_every", "eval_puzzles", "eval_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("puzzles", "silent_segments", "clip_norm", "variants", "test_puzzles", "warmup"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for own in self.other_sizes:
            if "env" not in own or not own.keys() <= {"env", "mixture", "batch_size"}:
                raise ValueError(f"other_sizes: expected env, and perhaps mixture and batch_size, got {sorted(own)}")
        if self.gradient_segments < 1 or self.random_starts < 0:
            raise ValueError(
                f"expected gradient_segments of at least 1 and random_starts of at least 0, got "
                f"{self.gradient_segments} and {self.random_starts}"
            )
        if self.gradient_segments > 1 and (self.silent_segments or self.model.kept_steps < self.model.steps):
            raise ValueError(
                "gradient_segments above 1 needs no silent segments, and a network that keeps gradient in the whole "
                "segment: gradient 'bptt', or 'last_cycle' with one H-cycle"
            )
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must lie in [0, 1), got {self.ema}")
        if not 0 <= self.shown <= 1:
            raise ValueError(f"shown must lie in [0, 1], got {self.shown}")
        if self.lr <= 0:
            raise ValueError(f"lr must be positive, got {self.lr}")
        if (self.variants or self.place_grids) and not self.augment:
            raise ValueError("variants and place_grids need augment, which is off")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        plain = {"env": dict(self.env), "mixture": [dict(arguments) for arguments in self.mixture]}
        plain["other_sizes"] = [dict(own) for own in self.other_sizes]
        return {**dataclasses.asdict(self), **plain}


ON_ONE_CORE: dict[str, Any] = {
    "loss": "softmax",
    "batch_size": 16,
    "optimizer": "muon",
    "clip_norm": 1.0,
    "lr_min_ratio": 0.0,
    "lr_decay": "linear",
    "warmup": 200,
    "weight_decay": 0.1,
    "ema": 0.999,
}
"""How the equivariant networks learn on one core: few boards a step, Muon, a learning rate that falls to zero."""
