"""What a comparison says of training: costs from the weights' JSON, curves, and how figures are written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hrm_gym.agents import pretrained
from hrm_gym.evaluation.compare.page import COLOURS, INK, LINE, columns, count, curves_chart, duration, solved_chart
from hrm_gym.evaluation.compare.plan import Label, parse_world
from hrm_gym.evaluation.compare.rows import (
    Curve,
    Figure,
    Row,
    Run,
    Training,
    band,
    parameter_count,
    read_curve,
    read_training,
)

HRM = {"kind": "hrm", "update": 100, "fed": 700, "seconds": 60.0, "recipe": {"batch_size": 64, "seed": 3}}
RL = {"kind": "ppo", "timesteps": 5000, "seconds": 30.0, "processor_seconds": 20.0, "recipe": {"seed": 1}}


def folder(path: Path, about: dict[str, Any], card: str = "", curve: list[dict[str, Any]] | None = None) -> Path:
    """A folder of weights, without the weights."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(about))
    (path / "CARD.md").write_text(card)
    if curve is not None:
        (path / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve))
    return path


def test_costs_of_every_kind(tmp_path: Path) -> None:
    hrm = read_training(folder(tmp_path / "hrm", HRM))
    assert (hrm.steps, hrm.puzzles, hrm.transitions, hrm.seconds, hrm.seed) == (6400, 700, None, 60.0, 3)
    rl = read_training(folder(tmp_path / "rl", RL))
    assert (rl.steps, rl.puzzles, rl.transitions, rl.processor_seconds) == (5000, None, 5000, 20.0)
    control = read_training(folder(tmp_path / "control", {**RL, "kind": "supervised"}))
    assert (control.puzzles, control.transitions) == (5000, None)
    assert read_training(None) == read_training(tmp_path) == Training()


def test_what_came_before_is_added_to_costs_and_curve(tmp_path: Path) -> None:
    before = [{**HRM, "update": 50, "fed": 300, "seconds": 120.0}]
    path = folder(tmp_path / "hrm", {**HRM, "before": before}, curve=[{"seconds": 30.0, "eval_solved": 0.5}])
    found = read_training(path)
    assert (found.steps, found.puzzles, found.seconds) == (9600, 1000, 180.0)
    assert read_curve(path) == Curve((2.5,), (0.5,))


def test_an_unknown_cost_is_not_guessed(tmp_path: Path) -> None:
    found = read_training(folder(tmp_path / "hrm", {**HRM, "before": [{"command": "somehow"}]}))
    assert (found.steps, found.puzzles, found.seconds) == (None, None, None)


def test_the_command_may_stand_in_the_card(tmp_path: Path) -> None:
    card = "# X\n\n| | |\n|---|---|\n| commands | `hrm-gym train maze` (8x8), then `hrm-gym train maze-10x10` |\n"
    assert read_training(folder(tmp_path / "a", HRM, card)).command == "hrm-gym train maze && hrm-gym train maze-10x10"
    assert read_training(folder(tmp_path / "b", {**HRM, "command": "make it"}, card)).command == "make it"


def test_a_damaged_json_is_named(tmp_path: Path) -> None:
    folder(tmp_path / "a", HRM)
    (tmp_path / "a" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: expected JSON"):
        read_training(tmp_path / "a")


@pytest.mark.parametrize("weights", sorted(pretrained.FOLDER.glob("*/config.json")), ids=lambda path: path.parent.name)
def test_bundled_weights_say_what_they_cost(weights: Path) -> None:
    found = read_training(weights.parent)
    assert found.seconds
    assert found.steps
    assert found.puzzles or found.transitions
    assert found.command


def test_bands_cover_the_runs_and_end_with_the_first(tmp_path: Path) -> None:
    runs = [Curve((0.0, 10.0), (0.0, 1.0)), Curve((1.0, 5.0), (0.2, 0.4)), Curve((0.0, 8.0), (0.5, 0.5))]
    minutes, mean, low, high = band(runs)
    assert (minutes[0], minutes[-1]) == (1.0, 5.0)
    assert (mean[-1], low[-1], high[-1]) == pytest.approx(((0.5 + 0.4 + 0.5) / 3, 0.4, 0.5))
    assert all(a <= b <= c for a, b, c in zip(low, mean, high, strict=True))
    assert band(runs[:1])[0] == [0.0, 10.0]


def test_curves_lie_in_the_folder_of_the_run_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    model = folder(run / "model", RL)
    (run / "curve.jsonl").write_text(
        '{"seconds": 60.0, "solved": 0.25, "timesteps": 9}\n{"seconds": 120.0, "loss": 1}\n'
    )
    assert read_curve(model) == Curve((1.0,), (0.25,))


def test_parameters_are_counted_once_and_without_a_target_network(tmp_path: Path) -> None:
    module = torch.nn.Module()
    module.q_net = torch.nn.Linear(3, 2)
    module.q_net_target = torch.nn.Linear(3, 2)
    assert parameter_count(SimpleNamespace(policy=module), None) == 8
    assert parameter_count(SimpleNamespace(model=SimpleNamespace(policy=module)), None) == 8
    assert parameter_count(SimpleNamespace(), None) is None
    assert parameter_count(SimpleNamespace(policy=module), folder(tmp_path / "a", {**HRM, "parameters": 5})) == 5


def row(agent: str, *curves: Curve) -> Row:
    runs = tuple(Run("w", "abc", Training(steps=7, seconds=90.0), curve, 0.5) for curve in curves)
    figure = Figure(0.5, 0.4, 0.6)
    return Row(
        "W<v0>", agent, "", "answer", "own decision", 10, figure, figure, None, figure, figure, figure, figure, 9, runs
    )


def test_pictures_take_the_colours_of_the_page() -> None:
    one = Curve((0.0, 2.0), (0.1, 0.9))
    rows = [row("a", one), row("b", one, Curve((0.0, 3.0), (0.0, 0.5))), Row("W<v0>", "c", absent="no")]
    curves = curves_chart(rows, ["a", "b", "c"])
    assert curves is not None
    assert "b (2 seeds)" in curves
    for drawn in (curves, solved_chart(rows, ["a", "b", "c"])):
        assert INK not in drawn
        assert LINE not in drawn
        assert "#0a0b" not in drawn
        assert f"var(--{COLOURS[0]})" in drawn
        assert f"var(--{COLOURS[1]})" in drawn
        assert "W&lt;v0&gt;" in drawn
        assert set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", drawn)) <= set(re.findall(r'id="([^"]+)"', drawn))
    assert curves_chart([rows[2]], ["c"]) is None


def test_how_figures_are_written() -> None:
    cells = columns(row("a", Curve((0.0,), (0.1,))))
    assert cells["solved"] == ("50.0 %", "(40.0-60.0)")
    assert cells["training time"] == ("1.5 min", "")
    assert cells["reached"] == ("–", "")
    assert [count(number) for number in (0, 9_999, 10_000, 999_499, 999_500, 27_300_000)] == [
        "0",
        "9,999",
        "10.0 k",
        "999 k",
        "1.00 M",
        "27.3 M",
    ]
    assert [duration(seconds) for seconds in (0.4, 60, 7199, 7200)] == ["0 s", "1.0 min", "120.0 min", "2.0 h"]


def test_labels(tmp_path: Path) -> None:
    for seed in (1, 0):
        folder(tmp_path / f"seed-{seed}" / "model", RL)
    label = Label.parse(f"ppo@cell={tmp_path}/seed-*")
    assert (label.name, label.mode) == ("ppo", "cell")
    assert label.weights == tuple(str(tmp_path / f"seed-{seed}" / "model") for seed in (0, 1))
    assert Label.parse("oracle").weights == ()
    with pytest.raises(ValueError, match="found none"):
        Label.parse(f"ppo={tmp_path}/nothing-*")


def test_worlds() -> None:
    world = parse_world("HRMSudokuMini-v0:box=(2, 3),reward=dense,source=generate")
    assert world.options == {"box": (2, 3), "reward": "dense", "source": "generate", "split": "test"}
    assert parse_world("HRMMaze-v0").options["source"] == "bank"
    assert parse_world("HRMMaze-v0:data=a.csv").numbered
    assert not parse_world("HRMMaze-v0").numbered
    with pytest.raises(ValueError, match="ID:argument=value"):
        parse_world("HRMMaze-v0:size")


def test_grids_of_arc_are_played_once_each() -> None:
    """Drawn by a seed, 127 of the 127 test grids would be some 80, many of them twice."""
    world = parse_world("HRMARCMini-v0")
    assert world.numbered
    assert world.length(1000) == 127
    assert len({puzzle.name for puzzle in world.puzzles(127, seed=5)}) == 127
    turned = parse_world("HRMARCMini-v0:split=train,augment=True")
    assert not turned.numbered
    assert turned.length(1000) == 1000
