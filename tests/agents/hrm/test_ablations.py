"""Every switch of an ablation is off where the paper has it off, and does what it says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import TINY, TINY_MODEL

from hrm_gym.agents.hrm.config import HRMConfig, ModuleSpec
from hrm_gym.agents.hrm.losses import segment_losses
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.recipes import RECIPES, Recipe, direct, recurrent, tiny_recursive
from hrm_gym.agents.hrm.trainer import Trainer
from hrm_gym.scripts.bench.memory import measure


def run(recipe: Recipe, folder: Path, updates: int = 3) -> Trainer:
    trainer = Trainer(recipe, folder)
    for _ in range(updates):
        trainer.step()
    return trainer


def test_defaults_are_the_papers() -> None:
    recipe = Recipe("HRMMaze-v0", HRMConfig(vocab_size=6, grid=(5, 5)))
    assert (recipe.silent_segments, recipe.shown, recipe.ema, recipe.clip_norm) == (0, 0.0, 0.0, 0.0)
    assert recipe.halt_target == "exact"
    assert (recipe.augment, recipe.variants, recipe.puzzles, recipe.continue_every) == (False, 0, 0, 1)
    model = recipe.model
    assert (model.positions, model.gradient, model.levels, model.shared) == ("rope", "one_step", 2, False)
    assert (model.h_layers, model.l_layers, model.h_cycles, model.l_cycles) == (4, 4, 2, 2)


@pytest.mark.parametrize(
    ("changes", "calls", "kept"),
    [
        ({}, "llhllh", 2),
        ({"gradient": "last_cycle"}, "llhllh", 3),
        ({"gradient": "bptt"}, "llhllh", 6),
        ({"h_cycles": 1, "l_cycles": 1}, "lh", 2),
        ({"levels": 1, "shared": True}, "llll", 1),
        ({"levels": 1, "shared": True, "gradient": "bptt"}, "llll", 4),
    ],
)
def test_the_length_of_the_gradient(changes: dict[str, Any], calls: str, kept: int) -> None:
    config = dataclasses.replace(TINY_MODEL, **changes)
    model, tokens = HRM(config), torch.ones(2, 25, dtype=torch.int32)
    x = model.embed(tokens, model.puzzles[torch.zeros(2, dtype=torch.int64)])
    assert "".join(name for name, _ in model.updates(model.initial_carry(2), x)) == calls
    counted = [0, 0]
    for level in {model.l_level, model.h_level}:
        level.register_forward_hook(
            lambda *_: counted.__setitem__(torch.is_grad_enabled(), 1 + counted[torch.is_grad_enabled()])
        )
    model.segment(model.initial_carry(2), tokens, torch.zeros(2, dtype=torch.int32))
    assert counted == [len(calls) - kept, kept]


def test_all_lengths_of_gradient_think_the_same() -> None:
    torch.manual_seed(0)
    first, tokens = HRM(TINY_MODEL), torch.ones(2, 25, dtype=torch.int32)
    logits = []
    for gradient in ("one_step", "last_cycle", "bptt"):
        model = HRM(dataclasses.replace(TINY_MODEL, gradient=gradient))  # type: ignore[arg-type]
        model.load_state_dict(first.state_dict())
        logits.append(model.segment(model.initial_carry(2), tokens, torch.zeros(2)).logits)
    assert torch.allclose(logits[0], logits[1], atol=1e-4)
    assert torch.allclose(logits[0], logits[2], atol=1e-4)


def test_memory_grows_with_the_cycles_only_through_time() -> None:
    def saved(gradient: Any, cycles: int) -> int:
        return measure(TINY_MODEL, gradient, (cycles, cycles), batch=2).saved

    assert saved("one_step", 1) == saved("one_step", 2) == saved("one_step", 4)
    assert saved("bptt", 1) == saved("one_step", 1)
    assert saved("bptt", 2) > 2 * saved("bptt", 1)
    assert saved("one_step", 4) < saved("last_cycle", 4) < saved("bptt", 4) / 3


@pytest.mark.parametrize("positions", ["rope", "rope2d", "learned", "learned_rope2d", "none"])
def test_positions(positions: Any) -> None:
    model = HRM(dataclasses.replace(TINY_MODEL, positions=positions))
    assert hasattr(model, "positions") == positions.startswith("learned")
    assert (model.rotary is not None) == ("rope" in positions)


def test_silent_segments_are_counted_and_leave_no_gradient(tmp_path: Path) -> None:
    """Loss only at the last of four iterations: one optimiser update a puzzle, from its fourth segment."""
    recipe = dataclasses.replace(TINY, silent_segments=3, model=dataclasses.replace(TINY.model, max_segments=4))
    trainer = run(recipe, tmp_path, 2)
    assert (trainer.slots.segments == 4).all()
    assert trainer.slots.halted.all()
    assert trainer.fed == 16
    plain, silent = (Trainer(one, tmp_path / str(i)) for i, one in enumerate((TINY, recipe)))
    plain.group.refill([1])
    silent.group.refill([1])
    puzzles = plain.model.puzzles.detach()[plain.slots.boards.puzzle_ids.long()]
    carry = plain.slots.carry
    for _ in range(4):
        result = plain.model.run(carry, plain.slots.boards.inputs, puzzles)
        carry = result.carry
    assert torch.allclose(silent.group.segments(silent.slots.carry, puzzles).logits, result.logits, atol=1e-3)


def test_halting_can_learn_from_the_rules(tmp_path: Path) -> None:
    """Other shortest paths than the stored ones are right by the rules, and what Q(halt) is told then."""
    recipe = dataclasses.replace(TINY, halt_target="solved", batch_size=64)
    trainer = Trainer(recipe, tmp_path)
    trainer.group.refill([1])
    boards, solve = trainer.slots.boards, trainer.feed.family.solve
    clues = boards.inputs.numpy().astype(np.uint8).reshape(-1, 5, 5)
    others = np.stack([solve(clue.T).T for clue in clues])  # the same mazes, ties broken the other way
    others[:8] = clues[:8]  # no path drawn
    answers = torch.from_numpy(others).long().flatten(1)
    logits = F.one_hot(answers, TINY.model.vocab_size).float() * 50
    solved = trainer.group.solved(logits)
    assert solved.tolist() == [False] * 8 + [True] * 56
    exact = (answers == boards.labels).all(dim=1)
    assert not exact.all()
    assert (exact <= solved).all()
    q = torch.where(solved, 50.0, -50.0)
    told, paper = (segment_losses(logits, boards.labels, q, q, None, target_halt=given) for given in (solved, None))
    assert float(told.q_halt) < 1e-6 < float(paper.q_halt)
    assert torch.equal(told.exact, exact)


def test_the_target_of_halting_changes_what_is_learnt(tmp_path: Path) -> None:
    """A recipe says which; the answers' loss stays."""
    solved = dataclasses.replace(TINY, halt_target="solved")
    trainer = Trainer(solved, tmp_path)
    trainer.group.solved = lambda logits: torch.ones(len(logits), dtype=torch.bool)  # type: ignore[method-assign]
    plain = Trainer(TINY, tmp_path / "plain")
    told, paper = trainer.step(), plain.step()
    assert torch.equal(told.answer, paper.answer)
    assert told.q_halt > paper.q_halt, "Q(halt) begins low, and is told that every answer is right"


def test_partly_filled_puzzles_show_what_the_plain_ones_hide(tmp_path: Path) -> None:
    plain = run(TINY, tmp_path / "plain", 1).slots.boards
    shown = run(dataclasses.replace(TINY, shown=1.0), tmp_path / "shown", 1).slots.boards
    assert torch.equal(plain.labels, shown.labels)
    given = shown.inputs != plain.inputs
    assert given.any()
    assert torch.equal(shown.inputs[given], plain.labels[given])


def test_clipping_shortens_long_gradients_only(tmp_path: Path) -> None:
    free = dataclasses.replace(TINY, optimizer="adamw")
    weights = [
        run(dataclasses.replace(free, clip_norm=limit), tmp_path / str(limit), 3).model.state_dict()
        for limit in (0.0, 1e6, 0.01)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_averaging_changes_what_is_saved_and_nothing_else(tmp_path: Path) -> None:
    averaged, plain = (run(dataclasses.replace(TINY, ema=ema), tmp_path / str(ema)) for ema in (0.9, 0.0))
    name = "answer_head.weight"
    assert torch.equal(averaged.model.state_dict()[name], plain.model.state_dict()[name])
    assert torch.equal(plain.weights()[name], plain.model.state_dict()[name])
    assert not torch.equal(averaged.weights()[name], averaged.model.state_dict()[name])


def test_baselines_are_settings_of_the_same_network(tmp_path: Path) -> None:
    size = HRM(TINY.model).parameter_count()
    variants = {"direct": direct(TINY), "recurrent": recurrent(TINY)}
    for name, recipe in variants.items():
        assert HRM(recipe.model).parameter_count() == size, name
        assert run(recipe, tmp_path / name).fed >= 8
    assert run(variants["direct"], tmp_path / "again", 3).fed == 24, "one segment a puzzle"
    assert (variants["direct"].model.steps, variants["direct"].model.kept_steps) == (1, 1)
    recursive = tiny_recursive(TINY, "mlp")
    assert (recursive.model.h_layers, recursive.model.mixer, recursive.ema) == (0, "mlp", 0.999)
    run(recursive, tmp_path / "trm", 1)


def test_a_recurrent_transformer_saves_and_resumes(tmp_path: Path) -> None:
    recipe = dataclasses.replace(recurrent(TINY), updates=6)
    straight = [row for row in Trainer(recipe, tmp_path / "a").fit(report_every=1)]
    for row in Trainer(recipe, tmp_path / "b").fit(report_every=1):
        if row["update"] == 5:
            break
    rest = [row for row in Trainer(recipe, tmp_path / "b").fit(report_every=1)]
    assert rest == straight[5:]


@pytest.mark.parametrize("changes", [{"levels": 1}, {"levels": 3, "shared": True}])
def test_one_level_needs_one_module(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="levels"):
        dataclasses.replace(TINY_MODEL, **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shown": 1.5}, "shown"),
        ({"silent_segments": -1}, "silent_segments"),
        ({"variants": 4}, "need augment"),
        ({"clip_norm": -1.0}, "clip_norm"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(TINY, **changes)


def test_recipes_of_the_papers_have_their_sizes() -> None:
    sizes = {
        "sudoku-extreme-1k": 27.3, "maze-hard-1k": 27.3, "arc-1": 27.3, "arc-2": 27.3,
        "sudoku-extreme-1k-trm-att": 6.8, "sudoku-extreme-1k-trm-mlp": 5.0, "sudoku-extreme-1k-direct": 27.3,
    }  # fmt: skip
    for name, millions in sizes.items():
        with torch.device("meta"):
            model = dataclasses.replace(RECIPES[name].model, puzzle_count=1)
        assert HRM(model).parameter_count() / 1e6 == pytest.approx(millions, abs=0.05), name


class ThreeModules(HRMConfig):
    """A third module between L and H, by one property."""

    @property
    def modules(self) -> tuple[ModuleSpec, ...]:
        return (ModuleSpec("l", 1, 1), ModuleSpec("m", 1, 2), ModuleSpec("h", 1, 4))

    @property
    def steps(self) -> int:
        return 8


def test_a_third_module_is_one_entry_more() -> None:
    config = ThreeModules(**{**dataclasses.asdict(TINY_MODEL), "gradient": "one_step"})
    model, tokens, ids = HRM(config), torch.ones(2, 25, dtype=torch.int32), torch.zeros(2, dtype=torch.int32)
    x = model.embed(tokens, model.puzzles[ids.long()])
    carry = model.initial_carry(2)
    assert len(carry) == 3
    assert "".join(name for name, _ in model.updates(carry, x)) == "llmllmh" * 2
    result = model.segment(carry, tokens, ids)
    (result.logits.sum() + result.q_halt.sum()).backward()
    for name in ("l", "m", "h"):
        assert all(p.grad.abs().sum() > 0 for p in model.get_submodule(f"{name}_level").parameters()), name
    assert model.reset_rows(result.carry, torch.tensor([True, False]))[1].shape == result.carry[1].shape
