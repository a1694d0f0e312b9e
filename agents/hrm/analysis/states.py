"""The states of both levels after every call of their modules: what studies of convergence and dimensions look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hrm_gym.agents.hrm import act
from hrm_gym.agents.hrm.agent import Boards
from hrm_gym.agents.hrm.network import HRM, schedule


class Step(NamedTuple):
    """One update of a state.

    Attributes:
        level: "L", "H", or "R" for the state of a recurrent network without hierarchy, "D" for a layer of a network
            that runs once.
        before: (B, T, D), the state that was updated.
        after: (B, T, D).
    """

    level: str
    before: Tensor
    after: Tensor


NAMES = {"l": "L", "h": "H", "x": "R"}


def is_deep(model: HRM) -> bool:
    """Whether every layer of the network runs just once: direct prediction."""
    return model.config.max_segments == 1 and len(schedule(model.config)[0]) <= 2


@torch.inference_mode()
def steps_of(model: HRM, boards: Boards, segments: int) -> Iterator[Step]:
    """Every update of a state in so many segments; of a network that runs once, every layer's."""
    x = model.embed(boards.inputs, model.puzzles[boards.puzzle_ids.long()])
    carry = model.initial_carry(len(boards.inputs))
    if is_deep(model):
        yield from _layers(model, lambda: act.advance(model, carry, x))
        return
    calls, _ = schedule(model.config)
    for call in calls * segments:
        before = carry.z_l if call == "l" else carry.z_h
        carry = model._advance(carry, x, call)
        yield Step(NAMES[call], before, carry.z_l if call == "l" else carry.z_h)


def _layers(model: HRM, run: Callable[[], Any]) -> list[Step]:
    """What goes into and comes out of every block while `run` runs the network."""
    seen: list[Step] = []
    with _watched(model, lambda before, after: seen.append(Step("D", before, after))):
        run()
    return seen


@contextmanager
def _watched(model: HRM, saw: Callable[[Tensor, Tensor], None]) -> Iterator[None]:
    """Call `saw` with the state before and after every block."""
    blocks = [block for level in dict.fromkeys((model.l_level, model.h_level)) for block in level.blocks]
    hooks = [block.register_forward_hook(lambda _, inputs, output: saw(inputs[0], output)) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
