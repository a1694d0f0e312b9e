"""An HRM's segment as an ONNX file: carry in, carry out; so that other runtimes, such as a browser's, can run it."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hrm_gym.agents.hrm.model import HRM, Carry
from hrm_gym.extras import load_extra
from hrm_gym.files import write_atomically

OPSET = 18


class SegmentOfOne(nn.Module):
    """One segment of one board, with everything around it that an agent does.

    Inputs: `tokens` (1, S) int64, `puzzle` (1,) int64 (row of the puzzle embedding), `begin` (1,) float32 (1 puts the
    states back to the initial ones, 0 leaves them), and a state (1, T, D) float32 for every module, slowest first.
    Outputs: `answers` (1, S) int64 token ids, `confidence` (1, S) float32 their probabilities, `q` (1, 2) float32 the
    logits of Q(halt) and Q(continue), `logits` (1, S, V) float32, `moved` (1, modules) float32 (by which share of its
    length each state moved), and the next states.
    """

    def __init__(self, model: HRM) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, puzzle: Tensor, begin: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """As the class says."""
        model, first = self.model, begin[:, None, None]
        carry = Carry(
            *(new * first + old * (1 - first) for new, old in zip(model.initial_carry(1), states, strict=True))
        )
        after, logits, q_halt, q_continue = model.segment(carry, tokens, puzzle)
        probabilities = torch.softmax(logits, dim=-1)[..., 1:]  # padding is never chosen
        confidence, answers = probabilities.max(dim=-1)
        moved = [
            (new - old).flatten(1).norm(dim=1) / new.flatten(1).norm(dim=1)
            for new, old in zip(after, carry, strict=True)
        ]
        q = torch.stack((q_halt, q_continue), dim=1)
        return answers + 1, confidence, q, logits, torch.stack(moved, dim=1), *after


def names_of(model: HRM) -> list[str]:
    """The names of a network's states, slowest first."""
    return [f"state_{name}" for name, *_ in reversed(model.modules_by_speed)]


def to_onnx(model: HRM) -> bytes:
    """The ONNX file of a network's segment (`SegmentOfOne`), in float32.

    Raises:
        ValueError: a package of the extra `web` is missing.
    """
    load_extra("onnx")
    load_extra("onnxscript")
    model = HRM.from_state(model.with_config(dtype="float32").config, model.state_dict()).eval().requires_grad_(False)
    states = names_of(model)
    given: tuple[Tensor, ...] = (
        torch.ones(1, model.config.cells, dtype=torch.int64),
        torch.zeros(1, dtype=torch.int64),
        torch.ones(1),
        *(state.clone() for state in model.initial_carry(1)),
    )
    held: Any = io.BytesIO()  # the exporter without dynamo takes a file, which its types do not say
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            SegmentOfOne(model), given, held,
            dynamo=False, opset_version=OPSET,
            input_names=["tokens", "puzzle", "begin", *states],
            output_names=["answers", "confidence", "q", "logits", "moved", *(f"next_{name}" for name in states)],
        )  # fmt: skip
    content: bytes = held.getvalue()
    return content


def describe(model: HRM, about: dict[str, Any]) -> dict[str, Any]:
    """What a runtime has to know besides the graph: the board, the tokens, how Q-values are read, the settings."""
    config = model.config
    return {
        "family": about.get("family"),
        "grid": list(config.grid),
        "vocab_size": config.vocab_size,
        "states": names_of(model),
        "width": [config.length, config.hidden_size],
        "alone": config.halting == "bce",
        "halting": about.get("halting", "q"),
        "check": bool(about.get("check", False)),
        "restart": int(about.get("restart", 0)),
    }


def write_onnx(model: HRM, about: dict[str, Any], path: Path) -> None:
    """Write the graph, and next to it, as `<name>.json`, what `describe` says.

    Raises:
        OSError: it cannot be written.
        ValueError: as `to_onnx`.
    """
    write_atomically(path, to_onnx(model))
    write_atomically(path.with_suffix(".json"), json.dumps(describe(model, about), indent=1) + "\n")
