"""Training with deep supervision: one segment, one loss, one optimiser update; then the carry is passed on.

A run is a folder: `update_N/` checkpoints (weights, config, complete training state), `curve.jsonl` (evaluations),
TensorBoard scalars, and `model/`, the finished weights.
"""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from hrm_gym.agents import checkpoint, pretrained
from hrm_gym.agents.hrm import run_folder
from hrm_gym.agents.hrm.accelerate import accelerate, can_compile, code_of, uses_cpu_routine
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.distributed import ALONE, BackwardPass, Processes
from hrm_gym.agents.hrm.feed import Feed
from hrm_gym.agents.hrm.group import Group, group_recipes, on_grid
from hrm_gym.agents.hrm.losses import SegmentLosses
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.optim import (
    EMA,
    AdamATan2,
    check_finite,
    clip,
    gradient_norm,
    learning_rate,
    muon_for,
    sign_sgd_rows,
    sum_by_row,
    undone_unless,
)
from hrm_gym.agents.hrm.recipes import Recipe
from hrm_gym.agents.hrm.run_folder import load_weights, pack_optimizer, unpack_optimizer, write_model
from hrm_gym.agents.hrm.slots import Slots


class Progress:
    """Sums over the boards that halted since the last report, kept on the device until they are asked for.

    Attributes:
        sums: (6,) float32: updates, loss, halted boards, and of these exact ones, right cells and segments.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.sums = torch.zeros(6, device=device)

    def add(self, losses: SegmentLosses, slots: Slots, batch: int) -> None:
        """Count one update on `batch` boards, of which these slots are all or, with several processes, a share."""
        halted = slots.halted
        share = len(halted) / batch
        found = (
            torch.full((), share, device=halted.device),
            losses.answer.detach().float() / batch,
            halted.sum().float(),
            (losses.exact & halted).sum().float(),
            (losses.cell_accuracy * halted).sum(),
            (slots.segments * halted).sum().float(),
        )
        self.sums += torch.stack(found)

    def means(self, processes: Processes = ALONE) -> dict[str, float]:
        """Mean loss of an update; exact accuracy, cell accuracy and segments of the boards that halted."""
        sums = self.sums.clone()
        processes.sum([sums])
        updates, loss, halted, exact, cells, segments = sums.tolist()
        halted = max(1.0, halted)
        return {
            "loss": loss / max(1.0, updates),
            "exact": exact / halted,
            "cells": cells / halted,
            "segments": segments / halted,
        }


AHEAD = 16
"""Updates between two reads of the device by the host. An update that is not finite is found that late; as many batches
of puzzles lie on the device."""

EVAL_BOARDS = 512
"""Boards that an evaluation solves at a time, where the memory allows."""


class Trainer:
    """One training run that can be stopped at any moment and continued exactly.

    All randomness is a function of (seed, update number or puzzle number), so that besides tensors only two counters
    have to be kept. With several processes each has a share of the slots; puzzles and exploration belong to the global
    number of a slot, and gradients are summed, so that the run is the same but for the order of the sums.

    Attributes:
        update: optimiser updates made.
        backward: the backward pass, which sums gradients over all processes.
        groups: the boards, a group a grid: one, or several that are learnt in turn.
        seconds: time spent in `fit`, over all sessions of the run.
        before: what is recorded of the runs whose weights this one started from, the first one first.
    """

    stopping = 0
    """The signal after which `fit` saves a checkpoint and returns; 0 for none."""

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        device: str = "cpu",
        compile: bool | Literal["step"] = False,
        processes: Processes = ALONE,
        workers: int = 0,
        ahead: int | None = None,
    ) -> None:
        """Start a run, or continue the newest checkpoint in the folder `run`, made by any number of processes.

        `workers` further processes make new puzzles ahead; they are the same whatever their number. The host prepares
        what `ahead` updates take and does not read from the device until they are made; by default 1 on a CPU, where
        it is the device, and `AHEAD` elsewhere. The bits do not depend on it. `compile` compiles the levels, "step" all
        of an update in front of the optimiser as one graph, forward and backward.

        Raises:
            ValueError: the folder holds a run of another recipe, or a damaged checkpoint; or the slots cannot be
                shared out evenly.
            FileExistsError: `model/` in it is someone else's.
        """
        checkpoint.model_path(Path(run))
        self.recipe, self.run, self.device, self.processes = recipe, Path(run), torch.device(device), processes
        self.ahead = ahead or (1 if self.device.type == "cpu" else AHEAD)
        recipes = group_recipes(recipe)
        feeds = [Feed(own, self.device, workers) for own in recipes]
        torch.manual_seed(recipe.seed)
        self.model = HRM(recipe.model).to(self.device)
        self.before: list[dict[str, Any]] = []
        if recipe.init and not checkpoint.checkpoints(self.run):
            self._start_from(Path(recipe.init))
        self.named = [(name, p) for name, p in self.model.named_parameters() if name != "puzzles"]
        self.backward = BackwardPass([p for _, p in self.named], processes)
        self.optimizer = self._make_optimizer()
        self.ema = EMA(self.named, recipe.ema) if recipe.ema else None
        models = [on_grid(self.model, own.model.grid) for own in recipes]
        self.groups = [Group(*own, processes, self.ahead) for own in zip(recipes, feeds, models, strict=True)]
        self.update, self.seconds = 0, 0.0
        self.progress = Progress(self.device)
        self._compiles = bool(compile) and self.device.type != "cpu"
        self._failed = torch.zeros(3, device=self.device)  # update, loss and norm of the first that was not finite
        before = self._resume()
        for group in self.groups:
            accelerate(group.model, compile is True, dynamic=False)
            if compile == "step" and can_compile(self.device.type):
                whole = not group.judges_on_host  # between two graphs
                group.supervise = torch.compile(group.supervise, fullgraph=whole, dynamic=False)  # type: ignore[method-assign]
        if processes.rank == 0:
            checkpoint.warn_of_other_bits(before, self._arithmetic())

    @property
    def group(self) -> Group:
        """The boards that the next update learns, and those of the last one where there is one group."""
        return self.groups[self.update % len(self.groups)]

    def close(self) -> None:
        """End the processes that make puzzles ahead."""
        for group in self.groups:
            group.feed.close()

    @property
    def feed(self) -> Feed:
        """The puzzles of the recipe's own boards."""
        return self.groups[0].feed

    @property
    def slots(self) -> Slots:
        """The slots of the recipe's own boards."""
        return self.groups[0].slots

    @property
    def fed(self) -> int:
        """Puzzles taken from all streams, by all processes."""
        return sum(group.fed for group in self.groups)

    def _start_from(self, folder: Path) -> None:
        if not folder.is_dir():
            bundled = dict((own.name, own) for own, _ in pretrained.bundled("hrm"))
            if str(folder) not in bundled:
                raise FileNotFoundError(
                    f"the recipe starts from weights in {folder}, and there are none: train them, or give --init ''"
                )
            folder = bundled[str(folder)]
        about = checkpoint.read_config(folder)
        state = checkpoint.read_tensors(folder / checkpoint.WEIGHTS, self.model.state_dict())
        if about.get("model", {}).get("q_features", "mean") != self.recipe.model.q_features:
            state = run_folder.with_fresh_q_head(state, self.model)
        load_weights(self.model, state, folder)
        own: dict[str, Any] = {name: about[name] for name in ("recipe", "update", "fed", "seconds") if name in about}
        self.before = [*about.get("before", []), own]

    def _make_optimizer(self) -> torch.optim.Optimizer:
        r = self.recipe
        if r.optimizer != "muon":
            parameters = [p for _, p in self.named]
            own: dict[str, Any] = {"lr": r.lr, "betas": r.betas, "weight_decay": r.weight_decay}
            if r.optimizer == "adam_atan2":
                return AdamATan2(parameters, **own)
            fused = self.device.type == "cuda"
            return torch.optim.AdamW(parameters, **own, fused=fused, foreach=not fused)
        muon, self.named = muon_for(self.named, lr=r.lr, betas=r.betas, weight_decay=r.weight_decay)
        return muon

    # ---- learning ----

    def step(self) -> SegmentLosses:
        """`gradient_segments` segments on every slot, a loss at each, and one update that all processes make.

        A board that halts within these segments runs to their end; its slot is refilled after it.

        Returns:
            The losses of the last segment.

        Raises:
            FloatingPointError: the loss or the gradient is not finite, of this update or of one since the host last
                read from the device; nothing was updated by it, nor since.
        """
        group, turns = self.group, len(self.groups)
        if not group.queue.left:
            self.settle()
        exploration = group.refill(range(self.update + 1, self.update + 1 + turns * self.ahead, turns))
        self.update += 1
        slots = group.slots
        puzzles = self.model.puzzles.detach()[slots.boards.puzzle_ids.long()].requires_grad_()
        targeted = self.recipe.model.halting == "q_learning" and self.update % self.recipe.continue_every == 0
        total, losses, slots.carry, slots.segments, slots.halted = group.supervise(puzzles, exploration, targeted)
        self._optimise(total / group.recipe.batch_size, puzzles, group)
        return losses

    def _optimise(self, loss: Tensor, puzzles: Tensor, group: Group) -> None:
        """One update from this process's part of the mean loss; `puzzles` are its boards' embedding vectors."""
        r = self.recipe
        self.model.zero_grad(set_to_none=True)
        loss = self.backward(loss)
        gradients = [p.grad for _, p in self.named if p.grad is not None]
        ids, places, sums = self._puzzle_gradient(puzzles, group)
        norm = gradient_norm([*gradients, sums])
        fine = self._judged(loss, norm)
        clip(gradients, norm, r.clip_norm)
        rate = learning_rate(self.update, r.lr, r.warmup, r.updates, r.lr_min_ratio, r.lr_decay)
        for settings in self.optimizer.param_groups:
            settings["lr"] = rate
        with nullcontext() if fine is None else undone_unless(fine, self._learnt()):
            self.optimizer.step()
            if self.ema:
                self.ema.update(self.model)
        puzzle_rate = r.puzzle_lr * rate / r.lr
        sign_sgd_rows(self.model.puzzles.data, ids, sums[places], puzzle_rate, r.puzzle_weight_decay, fine)

    def _judged(self, loss: Tensor, norm: Tensor) -> Tensor | None:
        """() bool on the device, whether this update and all before it are finite; None where the host has looked."""
        found = torch.stack([loss, norm])
        if self.ahead == 1:
            total, length = found.tolist()
            check_finite(total, length, self.update, run_folder.where_to_go_on(self.run))
            return None
        failure = torch.cat((torch.full_like(found[:1], self.update), found))
        self._failed = torch.where((self._failed[0] > 0) | found.isfinite().all(), self._failed, failure)
        return self._failed[0] == 0

    def settle(self) -> None:
        """Read whether all updates were finite.

        Raises:
            FloatingPointError: one was not; the message names it.
        """
        if self.ahead > 1:
            update, loss, norm = self._failed.tolist()
            if update:
                check_finite(loss, norm, int(update), run_folder.where_to_go_on(self.run))

    def _learnt(self) -> list[Tensor]:
        """What an optimiser step changes on the device: parameters, the optimiser's state, averages."""
        states = [own for state in self.optimizer.state.values() for own in state.values() if isinstance(own, Tensor)]
        every = [*(p for _, p in self.named), *states, *(self.ema.shadow.values() if self.ema else ())]
        return [own for own in every if own.device == self.device]  # AdamW counts its steps on the host

    def _puzzle_gradient(self, puzzles: Tensor, group: Group) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of the puzzle embedding of the boards of all processes, and `sum_by_row` of their gradients."""
        gradient = torch.zeros_like(puzzles) if puzzles.grad is None else puzzles.grad
        ids = self.processes.gather(group.slots.boards.puzzle_ids)
        every = self.processes.gather(gradient) if gradient.numel() else gradient.new_zeros(len(ids), 0)
        return ids, *sum_by_row(ids, every)

    def fit(self, report_every: int = 50) -> Iterator[dict[str, float]]:
        """Train to the recipe's end, or to a checkpoint when `stopping` is set.

        Yields:
            Progress every `report_every` updates, evaluations included when due.
        """
        begin = time.perf_counter() - self.seconds
        while self.update < self.recipe.updates:
            group = self.group
            losses = self.step()
            self.progress.add(losses, group.slots, group.recipe.batch_size)
            self.seconds = time.perf_counter() - begin
            final = self.update == self.recipe.updates
            evaluates = self.update % self.recipe.eval_every == 0 or final
            reports = evaluates or self.update % report_every == 0
            row = self.progress.means(self.processes) if reports else {}
            if reports:
                self.progress = Progress(self.device)
            if evaluates:
                row |= {f"eval_{name}": value for name, value in self.evaluate(final).items()}
                self._append_curve(row)
            if self.update % self.recipe.checkpoint_every == 0 or final:
                self.save()
            if not final and self._asked_to_stop():
                self.save()
                return
            if reports:
                yield {**row, "update": self.update}
        self.export()

    def _asked_to_stop(self) -> bool:
        """Whether any of the processes is to stop; all come to the same answer, when the host reads anyway."""
        if self.processes.count == 1 or self.group.queue.left:
            return bool(self.stopping) and self.processes.count == 1
        asked = torch.tensor(float(bool(self.stopping)), device=self.device)
        self.processes.sum([asked])
        if asked:  # so that this process, too, says that it has stopped, not that it has finished
            self.stopping = self.stopping or int(signal.SIGTERM)
        return bool(asked)

    # ---- judging ----

    def evaluate(self, final: bool = False) -> dict[str, float]:
        """Held-out puzzles: shares solved by the rules and exact, and mean segments, by the network's own decision; and
        `fixed_exact`, the share exact after all segments, which is what the official evaluation counts.

        With boards of several sizes these are means over the sizes, and `solved_8x8` and so on the shares of each.

        Args:
            final: take the recipe's `test_puzzles`, if it has any, instead of `eval_puzzles`.
        """
        names = ("solved", "exact", "segments", "fixed_exact")
        found = torch.stack([self._evaluate_group(group, final) for group in self.groups])
        means = dict(zip(names, found.mean(0).tolist(), strict=True))
        if len(self.groups) > 1:
            grids = ["{}x{}".format(*group.recipe.model.grid) for group in self.groups]
            means |= {f"solved_{grid}": own for grid, own in zip(grids, found[:, 0].tolist(), strict=True)}
        return means

    def _evaluate_group(self, group: Group, final: bool) -> Tensor:
        """(4,) float64 means of a group's held-out puzzles."""
        if group.judge is None:  # kept, so that it is compiled once
            group.judge = HRM.from_state(group.recipe.model).to(self.device)
            accelerate(group.judge, compile=uses_cpu_routine(self.model) or self._compiles)
        model = group.judge
        model.load_state_dict(self.weights())
        count = (self.recipe.test_puzzles if final else 0) or self.recipe.eval_puzzles
        sums = torch.zeros(4, device=self.device)
        for first in range(EVAL_BOARDS * self.processes.rank, count, EVAL_BOARDS * self.processes.count):
            rows = group.held_out_rows(model, first, min(EVAL_BOARDS, count - first))
            sums += torch.from_numpy(rows.sum(axis=0)).to(self.device)
        self.processes.sum([sums])
        return sums.double() / count

    def weights(self) -> dict[str, Tensor]:
        """The weights worth using: averaged ones if the recipe averages."""
        return self.ema.state_dict(self.model) if self.ema else self.model.state_dict()

    # ---- files: process 0 writes them, all read them ----

    def _about(self) -> dict[str, Any]:
        return {
            "kind": "hrm",
            "family": self.feed.family.name,
            "symbols": self.feed.family.symbols,
            "recipe": self.recipe.to_json(),
            "update": self.update,
            "fed": self.fed,
            "seconds": self.seconds,
            "torch": torch.__version__,
            **({"before": self.before} if self.before else {}),
        }

    def _arithmetic(self) -> dict[str, Any]:
        return checkpoint.arithmetic(self.device, code_of(self.groups[0].model), self.processes.count)

    def _append_curve(self, row: dict[str, float]) -> None:
        if self.processes.rank == 0:
            at = {"update": self.update, "fed": self.fed, "seconds": round(self.seconds, 1)}
            run_folder.append_curve(self.run, {**at, **row})

    def save(self, keep: int = 2) -> Path:
        """Write a checkpoint from which the run continues exactly; returns its folder."""
        self.settle()
        state = self._state() | pack_optimizer(self.optimizer, [name for name, _ in self.named])
        if self.processes.rank == 0:
            config = self.recipe.model
            about = {**self._about(), "arithmetic": self._arithmetic()}
            run_folder.write_checkpoint(self.run, self.update, self.weights(), state, config, about, keep)
        self.processes.wait()
        return checkpoint.checkpoint_path(self.run, self.update)

    def _state(self) -> dict[str, Tensor]:
        """The state of training without the optimiser's, of all processes."""
        state = {f"model.{name}": tensor for name, tensor in run_folder.once(self.model.state_dict()).items()}
        state |= {f"ema.{name}": tensor for name, tensor in (self.ema.shadow if self.ema else {}).items()}
        for front, group in self._named_groups():
            state |= {front + name: self.processes.gather(own) for name, own in group.slots.tensors().items()}
        if len(self.groups) > 1:
            state["fed"] = torch.tensor([group.fed for group in self.groups])
        state["progress"] = self.progress.sums.clone()  # so that the curve's averages continue, too
        self.processes.sum([state["progress"]])
        return state

    def _named_groups(self) -> list[tuple[str, Group]]:
        """The groups with what the names of their tensors begin with in a checkpoint."""
        return [(f"slots{number or ''}.", group) for number, group in enumerate(self.groups)]

    def export(self) -> Path:
        """Write the finished weights alone to `model/`; returns the folder."""
        path, about = checkpoint.model_path(self.run), self._about()
        if self.processes.rank == 0:
            write = lambda folder: write_model(folder, self.weights(), self.recipe.model, about)  # noqa: E731
            checkpoint.write_folder(path, write)
        self.processes.wait()
        return path

    def _resume(self) -> Any:
        """Continue from the newest checkpoint if there is one; returns the arithmetic that it was made with."""
        found = checkpoint.newest(self.run, self.recipe.to_json(), setting_defaults())
        if found is None:
            return None
        path, about = found
        wanted = self._state()
        needed = {**self.model.state_dict(), **wanted}
        tensors = checkpoint.read_tensors(path / checkpoint.STATE, needed, times=4)
        tensors = {name: tensor.to(self.device) for name, tensor in tensors.items()}
        checkpoint.check_state({"progress": wanted["progress"], **tensors}, wanted, path)
        load_weights(self.model, run_folder.part(tensors, "model."), path)
        unpack_optimizer(self.optimizer, [name for name, _ in self.named], tensors)
        if self.ema:
            self.ema.shadow = run_folder.part(tensors, "ema.")
        self.update, fed, self.seconds = (checkpoint.counter(about, n, path) for n in ("update", "fed", "seconds"))
        numbers = tensors["fed"].tolist() if len(self.groups) > 1 else [fed]
        for (front, group), number in zip(self._named_groups(), numbers, strict=True):
            group.load(run_folder.part(tensors, front), number, path / checkpoint.STATE)
        if self.processes.rank == 0 and "progress" in tensors:
            self.progress.sums = tensors["progress"]
        self.before = about.get("before", [])
        self.processes.wait()
        if self.processes.rank == 0:
            run_folder.trim_curve(self.run, self.update)
        return about.get("arithmetic")


def setting_defaults() -> dict[str, Any]:
    """What a recipe means that does not name a setting, because an earlier version did not know it."""

    def of(kind: Any) -> dict[str, Any]:
        return {own.name: own.default for own in dataclasses.fields(kind) if own.default is not dataclasses.MISSING}

    return {**of(Recipe), "model": of(HRMConfig)}
