"""Training with deep supervision: one segment, one loss, one optimiser update; then the carry goes on.

A run is a folder: `update_N/` checkpoints (weights, config, complete training state), `curve.jsonl` (evaluations),
TensorBoard scalars, and `model/`, the finished weights.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from hrm_gym.agents import checkpoint
from hrm_gym.agents.hrm import act
from hrm_gym.agents.hrm.checkpoint import load_weights, pack_optimizer, unpack_optimizer, write_model
from hrm_gym.agents.hrm.losses import IGNORE, SegmentLosses, segment_losses
from hrm_gym.agents.hrm.network import HRM, Carry
from hrm_gym.agents.hrm.optim import EMA, AdamATan2, learning_rate, sign_sgd
from hrm_gym.agents.hrm.progress import Progress
from hrm_gym.agents.hrm.recipes import Recipe
from hrm_gym.dataset import PuzzleStream
from hrm_gym.envs.puzzle import PuzzleFamily, PuzzleSource, mix64

EVAL_SEED = 0x5EED
"""Seed of the held-out puzzles of every evaluation during training."""


def environment(recipe: Recipe, split: str) -> tuple[PuzzleFamily, PuzzleSource]:
    """The family and the puzzle source of a recipe's environment for one split."""
    source = recipe.source if split == "train" or recipe.source in ("bank", "generate") else "generate"
    env: Any = gym.make(recipe.env_id, source=source, split=split, **recipe.env).unwrapped
    if tuple(env.shape) != recipe.model.grid:
        raise ValueError(
            f"{recipe.env_id} has a grid of {tuple(env.shape)}, the recipe's network one of {recipe.model.grid}"
        )
    return env.family, env.puzzle_source


class Trainer:
    """One training run that can be stopped at any moment and continued exactly.

    All randomness is a function of (seed, update number or puzzle number), so that besides tensors only two counters
    have to be kept.

    Attributes:
        update: optimiser updates made.
        fed: puzzles taken from the stream.
        seconds: time spent in `fit`, over all sessions of the run.
    """

    def __init__(self, recipe: Recipe, run: Path, device: str = "cpu", compile: bool = False) -> None:
        """Start a run, or continue the newest checkpoint in the folder `run`.

        Raises:
            ValueError: the folder holds a run of another recipe, or a damaged checkpoint.
        """
        self.recipe, self.run, self.device = recipe, Path(run), torch.device(device)
        self.family, source = environment(recipe, "train")
        self.held_out = PuzzleStream(environment(recipe, "test")[1], EVAL_SEED)
        self.stream = PuzzleStream(source, recipe.seed)
        torch.manual_seed(recipe.seed)
        self.model = HRM(recipe.model).to(self.device)
        if recipe.init and not checkpoint.checkpoints(self.run):
            folder = Path(recipe.init)
            if not folder.is_dir():
                raise FileNotFoundError(
                    f"the recipe starts from weights in {folder}, and there are none: train them, or give --init ''"
                )
            load_weights(self.model, checkpoint.read_tensors(folder / checkpoint.WEIGHTS), folder)
        self.named = [(name, p) for name, p in self.model.named_parameters() if name != "puzzles"]
        self.optimizer = self._make_optimizer()
        self.ema = EMA(self.named, recipe.ema) if recipe.ema else None
        self.slots = act.Slots.empty(self.model, self._boards(recipe.batch_size, 0))
        self.symmetries = torch.from_numpy(self.family.symmetries(recipe.model.grid)) if recipe.augment else None
        self.update, self.fed, self.seconds = 0, 0, 0.0
        self._resume()
        if compile:
            for level in {self.model.l_level, self.model.h_level}:
                level.compile(dynamic=False)

    def _make_optimizer(self) -> torch.optim.Optimizer:
        r = self.recipe
        kind = {"adam_atan2": AdamATan2, "adamw": torch.optim.AdamW}[r.optimizer]
        return kind([p for _, p in self.named], lr=r.lr, betas=r.betas, weight_decay=r.weight_decay)

    # ---- puzzles ----

    def _boards(self, count: int, first: int) -> act.Boards:
        """Puzzles first … first + count - 1 of the stream as tensors on the device."""
        batch = self.stream.take(first, count)
        inputs = torch.from_numpy(batch.clues.reshape(count, -1)).to(self.device, torch.int32)
        labels = torch.from_numpy(batch.solutions.reshape(count, -1)).to(self.device, torch.int32)
        return act.Boards(
            inputs, torch.where(labels == 0, IGNORE, labels), torch.from_numpy(batch.puzzle_ids).to(self.device)
        )

    def _augmented(self, boards: act.Boards, first: int) -> act.Boards:
        """Each board under a symmetry drawn from its puzzle number."""
        if self.symmetries is None:
            return boards
        draw = [mix64(self.recipe.seed ^ mix64(first + i)) % len(self.symmetries) for i in range(len(boards.inputs))]
        cells = self.symmetries[draw].to(self.device)
        return boards._replace(inputs=boards.inputs.gather(1, cells), labels=boards.labels.gather(1, cells))

    def _refill(self) -> None:
        """Give every halted slot the next puzzle of the stream."""
        waiting = self.slots.halted.nonzero()[:, 0]
        if len(waiting) == 0:
            return
        fresh = self._augmented(self._boards(len(waiting), self.fed), self.fed)
        self.fed += len(waiting)
        rows = torch.zeros(len(self.slots.halted), dtype=torch.int64, device=self.device)
        rows[waiting] = torch.arange(len(waiting), device=self.device)
        self.slots.refill(self.model, act.Boards(*(part[rows] for part in fresh)))

    # ---- learning ----

    def step(self) -> SegmentLosses:
        """One segment on every slot, its loss, and one optimiser update.

        Raises:
            FloatingPointError: the loss is not finite; nothing was updated.
        """
        config, slots = self.recipe.model, self.slots
        self._refill()
        slots.segments = slots.segments + 1
        self.update += 1
        puzzles = F.embedding(slots.boards.puzzle_ids.long(), self.model.puzzles)
        result = self.model.run(slots.carry, slots.boards.inputs, puzzles)
        generator = torch.Generator().manual_seed(mix64(mix64(self.recipe.seed) ^ self.update) >> 1)
        exploration = act.draw_exploration(config, len(slots.segments), generator)
        exploration = act.Exploration(*(draw.to(self.device) for draw in exploration))
        slots.halted = act.training_halt(config, slots.segments, result, exploration)
        target = None
        if config.halting == "q_learning" and self.update % self.recipe.continue_every == 0:
            target = act.continue_target(config, self.model.run, result, slots.segments, slots.boards.inputs, puzzles)
        losses = segment_losses(
            result.logits, slots.boards.labels, result.q_halt, result.q_continue, target, self.recipe.loss
        )
        self._optimise(losses.total / len(slots.segments))
        slots.carry = result.carry
        return losses

    def _optimise(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss of update {self.update} is {loss.item()}; the last checkpoint is kept")
        r = self.recipe
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        rate = learning_rate(self.update, r.lr, r.warmup, r.updates, r.lr_min_ratio, r.lr_decay)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        puzzles = self.model.puzzles
        if puzzles.grad is not None and puzzles.numel():
            ids = self.slots.boards.puzzle_ids
            sign_sgd(puzzles.data, puzzles.grad, ids, r.puzzle_lr * rate / r.lr, r.puzzle_weight_decay)
        if self.ema:
            self.ema.update(self.model)

    def fit(self, report_every: int = 50) -> Iterator[dict[str, float]]:
        """Train to the recipe's end; yields progress every `report_every` updates, evaluations included when due."""
        begin, progress = time.perf_counter() - self.seconds, Progress()
        while self.update < self.recipe.updates:
            losses = self.step()
            progress.add(losses, self.slots, self.recipe.batch_size)
            self.seconds = time.perf_counter() - begin
            final = self.update == self.recipe.updates
            row: dict[str, float] = {}
            if self.update % self.recipe.eval_every == 0 or final:
                row = {f"eval_{name}": value for name, value in self.evaluate().items()}
                self._append_curve({**progress.means(), **row})
            if self.update % self.recipe.checkpoint_every == 0 or final:
                self.save()
            if row or self.update % report_every == 0:
                yield {**progress.means(), **row, "update": self.update}
                progress = Progress()
        self.export()

    def evaluate(self) -> dict[str, float]:
        """Held-out puzzles with the learned halting: shares solved by the rules and exact, and mean segments."""
        model = HRM(self.recipe.model).to(self.device)
        model.load_state_dict(self.weights())
        batch = self.held_out.take(0, self.recipe.eval_puzzles)
        inputs = torch.from_numpy(batch.clues.reshape(len(batch), -1)).to(self.device, torch.int32)
        ids = torch.from_numpy(batch.puzzle_ids).to(self.device)
        solved = act.solve(model, inputs, ids, self.recipe.model.max_segments)
        answers = solved.answers.cpu().numpy().reshape(batch.clues.shape)
        right = [self.family.is_solved(batch[i], answers[i]) for i in range(len(batch))]
        exact = (answers == batch.solutions).all(axis=(1, 2))
        return {
            "solved": float(np.mean(right)),
            "exact": float(exact.mean()),
            "segments": float(solved.segments.float().mean()),
        }

    def weights(self) -> dict[str, Tensor]:
        """The weights worth using: averaged ones if the recipe averages."""
        return self.ema.state_dict(self.model) if self.ema else self.model.state_dict()

    # ---- files ----

    def _about(self) -> dict[str, Any]:
        return {
            "kind": "hrm",
            "family": self.family.name,
            "symbols": self.family.symbols,
            "recipe": self.recipe.to_json(),
            "update": self.update,
            "fed": self.fed,
            "seconds": self.seconds,
            "torch": torch.__version__,
        }

    def _append_curve(self, row: dict[str, float]) -> None:
        self.run.mkdir(parents=True, exist_ok=True)
        with (self.run / "curve.jsonl").open("a") as file:
            file.write(
                json.dumps({"update": self.update, "fed": self.fed, "seconds": round(self.seconds, 1), **row}) + "\n"
            )

    def save(self, keep: int = 2) -> Path:
        """Write a checkpoint from which the run continues exactly; returns its folder."""
        state = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        state |= pack_optimizer(self.optimizer, [name for name, _ in self.named])
        state |= {f"ema.{name}": tensor for name, tensor in (self.ema.shadow if self.ema else {}).items()}
        slots = self.slots
        state |= {"slots.z_h": slots.carry.z_h, "slots.z_l": slots.carry.z_l}
        state |= {"slots.segments": slots.segments, "slots.halted": slots.halted}
        state |= {f"boards.{name}": tensor for name, tensor in slots.boards._asdict().items()}

        def fill(folder: Path) -> None:
            write_model(folder, self.weights(), self.recipe.model, self._about())
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / checkpoint.STATE)

        path = checkpoint.checkpoint_path(self.run, self.update)
        checkpoint.write_folder(path, fill)
        checkpoint.drop_old(self.run, keep)
        return path

    def export(self) -> Path:
        """Write the finished weights alone to `model/`; returns the folder."""
        path = self.run / "model"
        about = self._about()
        checkpoint.write_folder(path, lambda folder: write_model(folder, self.weights(), self.recipe.model, about))
        return path

    def _resume(self) -> None:
        found = checkpoint.newest(self.run, self.recipe.to_json())
        if found is None:
            return
        path, about = found
        tensors = checkpoint.read_tensors(path / checkpoint.STATE)

        def part(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): t.to(self.device) for n, t in tensors.items() if n.startswith(prefix)}

        self.model.load_state_dict(part("model."))
        unpack_optimizer(self.optimizer, [name for name, _ in self.named], tensors)
        if self.ema:
            self.ema.shadow = part("ema.")
        slots = part("slots.")
        carry = Carry(slots["z_h"], slots["z_l"])
        self.slots = act.Slots(carry, slots["segments"], slots["halted"], act.Boards(**part("boards.")))
        self.update, self.fed, self.seconds = about["update"], about["fed"], about["seconds"]
        self._trim_curve()

    def _trim_curve(self) -> None:
        """Drop evaluations that came after the checkpoint and will be made again."""
        path = self.run / "curve.jsonl"
        if path.exists():
            rows = [
                line
                for line in path.read_text().splitlines()
                if line.endswith("}") and json.loads(line)["update"] <= self.update
            ]
            temporary = path.with_suffix(".tmp")
            temporary.write_text("".join(f"{line}\n" for line in rows))
            temporary.replace(path)
