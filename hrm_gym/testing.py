"""Conformance checks for puzzle families and agents, bundled ones and your own: run them in your own test suite.

>>> import hrm_gym
>>> from hrm_gym.testing import check_family
>>> env = hrm_gym.make_env("HRMSudokuMini-v0").unwrapped
>>> check_family(env.family, env.puzzle_source)

Each check raises an AssertionError that says what was expected and what came.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hrm_gym.agents.agent import Agent, PrivilegedAgent
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Puzzle, PuzzleBatch, PuzzleSource, puzzle_keys
from hrm_gym.envs.puzzle_env import PuzzleEnv
from hrm_gym.envs.vector_env import PuzzleVectorEnv

BOARDS = 6
"""Puzzles that a check looks at."""

BEFORE_THE_END = {"segment", "violations", "action_mask"}
"""What info may say while an episode runs: nothing that tells how near the answer is to the solution."""


def _expect(condition: Any, message: str) -> None:
    if not condition:
        raise AssertionError(message)


# ---- families ----


def check_family(family: PuzzleFamily, source: PuzzleSource, seed: int = 0) -> None:
    """Check a family of puzzles and a source of it: rules, text, symmetries, keys, and the environments over them.

    Args:
        family: the rules.
        source: where puzzles come from.
        seed: of the puzzles, answers and symmetries that are looked at.

    Raises:
        AssertionError: something is not as `PuzzleFamily`, `PuzzleSource` and the environments' manual promise.
    """
    name = getattr(family, "name", "")
    _expect(re.fullmatch(r"[a-z][a-z0-9_-]*", str(name)), f"expected a name in lower-case letters, got {name!r}")
    symbols, count = family.symbols, family.vocab_size
    _expect(len(symbols) == count, f"expected a symbol for each of {count} tokens, got {symbols!r}")
    _expect(len(set(symbols)) == count, f"expected different symbols, got {symbols!r}")
    writable = family.writable
    legal = len(set(writable)) == len(writable) > 0 and all(0 < token < count for token in writable)
    _expect(legal, f"expected different writable tokens in 1..{count - 1}, got {writable}")
    batch = _check_source(source, seed)
    rng = np.random.default_rng(seed)
    _check_solutions(family, batch)
    _check_rules_on_answers(family, batch, rng)
    if family.has_solver:
        _check_reading(family, batch)
    _check_symmetries(family, batch, rng)
    _check_drawing(family, batch[0])
    for mode in ("answer", "cell"):
        _check_vector_env(family, source, mode, seed)


def _check_source(source: PuzzleSource, seed: int) -> PuzzleBatch:
    """Keys decide puzzles; a batch is its rows. Returns a batch."""
    keys = puzzle_keys(np.full(BOARDS, seed, dtype=np.uint64), np.arange(BOARDS, dtype=np.uint64))
    batch, again = source.batch(keys), source.batch(keys)
    for name, grids in (("clues", batch.clues), ("solutions", batch.solutions)):
        expected = (BOARDS, *source.shape)
        _expect(
            grids.shape == expected and grids.dtype == np.uint8,
            f"expected {name} of shape {expected} uint8, got {grids.shape} {grids.dtype}",
        )
        _expect(np.array_equal(grids, getattr(again, name)), f"expected the same {name} for the same keys")
    for row, key in enumerate(keys):
        puzzle = source.puzzle(int(key))
        same = np.array_equal(puzzle.clues, batch.clues[row]) and np.array_equal(puzzle.solution, batch.solutions[row])
        _expect(same, f"expected row {row} of a batch to be puzzle({int(key)}), got another")
        _expect(puzzle.puzzle_id == batch.puzzle_ids[row], f"expected the puzzle_id of puzzle({int(key)}) in the batch")
    return batch


def _check_solutions(family: PuzzleFamily, batch: PuzzleBatch) -> None:
    clues, solutions = batch.clues, batch.solutions
    verdict = family.verdict(clues, solutions, solutions)
    for name in ("solved", "exact"):
        _expect(verdict[name].all(), f"expected stored solutions to be {name}, got {verdict[name].tolist()}")
    _expect((verdict["cell_accuracy"] == 1).all(), "expected a cell accuracy of 1 for stored solutions")
    _expect(not family.violations(clues, solutions).any(), "expected no violations in stored solutions")
    _expect(np.isfinite(family.cost(clues, solutions)).all(), "expected finite costs for stored solutions")
    blank, free = family.blank(clues), family.free(clues)
    _expect(not family.violations(clues, blank).any(), "expected no violations in blank answers")
    _expect(free.shape == clues.shape and free.dtype == np.bool_, f"expected free cells as {clues.shape} bool")
    if family.has_solver:  # ARC's answers have a frame of their own around what is written
        written = np.isin(solutions[free], family.writable).all()
        _expect(written, "expected writable tokens in the free cells of solutions")
    unfinished = (blank != solutions).any(axis=(1, 2))
    _expect(not family.judge(clues, solutions, blank)[unfinished].any(), "expected blank answers not to be solved")
    for row in range(len(batch)):
        family.check(clues[row])
        found = family.solve(clues[row]) if family.has_solver else None
        if found is not None:
            right = family.judge(clues[row][None], solutions[row][None], found[None])[0]
            _expect(right, f"expected solve() to give a right answer, got {found.tolist()} for {clues[row].tolist()}")
        _expect(found is not None or not family.has_solver, "expected solve() to solve the source's puzzles, got None")


def _check_rules_on_answers(family: PuzzleFamily, batch: PuzzleBatch, rng: np.random.Generator) -> None:
    """Legal and wild answers: a batch is judged like its rows, and counts count what is marked."""
    shape, cells = batch.clues.shape, batch.clues[0].size
    wild = rng.integers(family.vocab_size, size=shape, dtype=np.uint8)
    legal = rng.choice(np.array(family.writable, dtype=np.uint8), shape)
    for answers in (wild, np.where(family.free(batch.clues), legal, batch.clues)):
        boards = (batch.clues, batch.solutions, answers)
        marks, counts = family.violations(*boards[::2]), family.count_violations(*boards[::2])
        _expect(marks.shape == shape and marks.dtype == np.bool_, f"expected violations as {shape} bool")
        _expect(np.array_equal(marks.sum(axis=(1, 2)), counts), "expected count_violations to count the violations")
        costs, verdict = family.cost(*boards[::2]), family.verdict(*boards)
        _expect(np.isinf(costs[counts > 0]).all(), "expected infinite costs for answers that break a rule")
        writes = family.legal_writes(*boards[::2])
        expected = (len(batch), cells, len(family.writable))
        _expect(writes.shape == expected and writes.dtype == np.bool_, f"expected legal_writes as {expected} bool")
        for row in range(len(batch)):
            one = slice(row, row + 1)
            for name, values in family.verdict(*(grids[one] for grids in boards)).items():
                _expect(values[0] == verdict[name][row], f"expected {name} of a batch to be that of its rows")
            alone = family.violations(batch.clues[one], answers[one])[0]
            _expect(np.array_equal(alone, marks[row]), "expected violations of a batch to be those of its rows")


def _check_reading(family: PuzzleFamily, batch: PuzzleBatch) -> None:
    clues, solution = batch.clues[0], batch.solutions[0]
    _expect(np.array_equal(family.parse(clues), clues), "expected parse() to return a token grid unchanged")
    _expect(np.array_equal(family.parse(family.to_text(clues)), clues), "expected parse() to read what to_text() wrote")
    texts = ["".join(family.symbols[token] for token in grid.ravel()) for grid in (clues, solution)]
    for found, grid in zip(family.read_row(*texts), (clues, solution), strict=True):
        _expect(np.array_equal(found, grid), "expected read_row() to read the symbols of clues and solution")
    bad: list[Any] = ["", "no puzzle\0", [], [[1, 2], [3]], np.zeros((1, 1))]
    for value in bad:
        try:
            family.parse(value)
        except ValueError:
            continue
        raise AssertionError(f"expected a ValueError for {value!r}, got none")


def _check_symmetries(family: PuzzleFamily, batch: PuzzleBatch, rng: np.random.Generator) -> None:
    shape = batch.clues.shape[1:]
    for key in rng.integers(2**63, size=8).tolist():
        cells, tokens = family.symmetry(shape, key)
        _expect(sorted(cells.tolist()) == list(range(batch.clues[0].size)), "expected symmetry() to permute the cells")
        _expect(sorted(tokens.tolist()) == list(range(family.vocab_size)), "expected symmetry() to permute the tokens")
        clues, solutions = family.image(batch.clues, key), family.image(batch.solutions, key)
        _expect(
            family.judge(clues, solutions, solutions).all(), f"expected images of solved puzzles to be solved ({key})"
        )
        back = family.preimage(solutions, key)
        _expect(np.array_equal(back, batch.solutions), f"expected preimage() to undo image() ({key})")
        if family.has_solver:
            family.check(clues[0])
            same = np.array_equal(family.canonical(clues[0]), family.canonical(batch.clues[0]))
            _expect(same, f"expected one canonical grid for a puzzle and its image ({key})")


def _check_drawing(family: PuzzleFamily, puzzle: Puzzle) -> None:
    import pygame

    surface = pygame.Surface(family.board_size)
    family.draw(surface, puzzle, puzzle.solution, None)
    drawn = pygame.surfarray.array3d(surface)
    _expect(len(np.unique(drawn.reshape(-1, 3), axis=0)) > 1, "expected draw() to paint the board, got one colour")
    places = {
        family.cell_at(puzzle.shape, (x, y))
        for x in range(0, surface.get_width(), 2)
        for y in range(0, surface.get_height(), 2)
    }
    cells = {(row, column) for row in range(puzzle.shape[0]) for column in range(puzzle.shape[1])}
    _expect(cells <= places, "expected cell_at() to find every cell under some pixel")


# ---- environments ----


def _check_vector_env(family: PuzzleFamily, source: PuzzleSource, mode: str, seed: int) -> None:
    """N single environments and one batched one, step by step over random actions."""
    arguments: dict[str, Any] = {"action_mode": mode, "max_segments": 3, "max_steps": 12, "mask_in_info": True}
    batched_class = type("CheckedVectorEnv", (PuzzleVectorEnv,), {"single": PuzzleEnv})
    envs = batched_class(BOARDS, family=family, source=source, **arguments)
    singles = [PuzzleEnv(family, source, **arguments) for _ in range(BOARDS)]
    observations, infos = envs.reset(seed=seed)
    for row, env in enumerate(singles):
        observation, info = env.reset(seed=seed + row)
        _check_step(env, observation, info, running=True)
        _check_row(observations, infos, row, observation, info)
        _check_no_solution(env, observation)
    envs.action_space.seed(seed)
    waiting = np.zeros(BOARDS, dtype=np.bool_)
    for _ in range(30):
        actions = envs.action_space.sample()
        observations, rewards, terminated, truncated, infos = envs.step(actions)
        for row, env in enumerate(singles):
            if waiting[row]:  # the step after an end is a reset, the default of Gymnasium
                observation, info = env.reset()
                reward, ended, cut = 0.0, False, False
            else:
                observation, reward, ended, cut, info = env.step(actions[row])
            came, expected = (rewards[row], terminated[row], truncated[row]), (reward, ended, cut)
            _expect(came == expected, f"expected {expected} on board {row} in {mode} mode, got {came}")
            _check_step(env, observation, info, running=not (ended or cut))
            _check_row(observations, infos, row, observation, info)
        waiting = terminated | truncated


def _check_step(env: PuzzleEnv, observation: dict[str, Any], info: dict[str, Any], running: bool) -> None:
    _expect(env.observation_space.contains(observation), "expected observations in the observation space")
    if running:
        _expect(
            set(info) <= BEFORE_THE_END, f"expected an info without {sorted(set(info) - BEFORE_THE_END)} before the end"
        )
    else:
        missing = {"is_success", "solved", "exact", "cell_accuracy"} - set(info)
        _expect(not missing, f"expected {sorted(missing)} in the info at the end")
    masks = env.action_masks()
    _expect(masks.dtype == np.bool_ and masks.any(), "expected action masks of bool with a legal action")


def _check_row(
    batch: dict[str, Any], infos: dict[str, Any], row: int, observation: dict[str, Any], info: dict[str, Any]
) -> None:
    for key, value in observation.items():
        _expect(
            np.array_equal(batch[key][row], value), f"expected {key} of board {row} to be that of a single environment"
        )
    for key, value in info.items():
        _expect(
            np.array_equal(infos[key][row], value), f"expected info[{key!r}] of board {row} to be that of a single one"
        )


def _check_no_solution(env: PuzzleEnv, observation: dict[str, Any]) -> None:
    if np.array_equal(env.puzzle.clues, env.puzzle.solution):
        return
    for key, value in observation.items():
        _expect(
            not np.array_equal(value, env.puzzle.solution), f"expected no solution in an observation, got it in {key}"
        )


# ---- agents ----


def check_agent(agent: Agent, env: gym.Env[Any, Any], seed: int = 0, random: bool = False) -> None:
    """Check that an agent follows `hrm_gym.agents.agent.Agent` on an environment.

    Args:
        agent: made for the environment.
        env: a puzzle environment in the agent's action mode.
        seed: of the puzzles.
        random: whether the agent acts at random even where `deterministic` is asked for: nothing is then repeated.

    Raises:
        AssertionError: something is not as the protocol promises.
    """
    world: Any = env.unwrapped
    _expect(isinstance(agent.name, str) and agent.name, f"expected a name, got {agent.name!r}")
    mode = world.action_mode
    _expect(agent.action_mode == mode, f"expected an agent for {mode} mode, got one for {agent.action_mode}")
    observations, puzzles = [], []
    for row in range(BOARDS):
        observations.append(env.reset(seed=seed + row)[0])
        puzzles.append(world.puzzle)
    batch = {key: np.stack([one[key] for one in observations]) for key in observations[0]}
    kept = {key: value.copy() for key, value in batch.items()}
    states_before = list(_global_random_states())
    _show(agent, puzzles)
    actions, state = agent.predict(batch)
    for before, after in zip(states_before, _global_random_states(), strict=True):
        _expect(np.array_equal(before, after), "expected predict() to leave the global random states alone")
    for key, value in kept.items():
        _expect(
            np.array_equal(value, batch[key]), f"expected predict() to leave the observation alone, got other {key}"
        )
    _check_actions(env, actions)
    _check_thoughts(agent, batch["puzzle"].shape)
    if not random and not isinstance(agent, PrivilegedAgent):  # which puzzles those are shown decides their answers
        _check_repeated(agent, batch, observations, actions, state)
    _check_episode(agent, env, seed)


def _show(agent: Agent, puzzles: list[Puzzle]) -> None:
    if isinstance(agent, PrivilegedAgent):
        agent.see(puzzles)


def _check_actions(env: gym.Env[Any, Any], actions: NDArray[Any]) -> None:
    _expect(len(actions) == BOARDS, f"expected {BOARDS} actions, one a board, got {len(actions)}")
    for action in actions:
        _expect(env.action_space.contains(action), f"expected actions in {env.action_space}, got {action}")


def _check_thoughts(agent: Agent, shape: tuple[int, ...]) -> None:
    thoughts = agent.thoughts()
    if thoughts is None:
        return
    _expect(len(thoughts) == shape[0], f"expected {shape[0]} thoughts, one a board, got {len(thoughts)}")
    for thought in thoughts:
        _expect(thought.answer.shape == shape[1:], f"expected the answer of a thought as {shape[1:]}")
        for value in (thought.q_halt, thought.q_continue, thought.confidence):
            within = value is None or (np.min(value) >= 0 and np.max(value) <= 1)
            _expect(within, "expected Q-values and confidences in [0, 1]")


def _check_repeated(
    agent: Agent, batch: dict[str, Any], observations: list[dict[str, Any]], actions: NDArray[Any], state: Any
) -> None:
    """The same question has the same answer: again, row by row, from a fresh start, and for rows that are left."""
    _expect(np.array_equal(agent.predict(batch)[0], actions), "expected the same actions for the same observations")
    for row, observation in enumerate(observations):
        alone = agent.predict(observation)[0]
        _expect(
            np.array_equal(alone, actions[row]), f"expected the action of board {row} alone to be that of the batch"
        )
    again = agent.predict(batch, state, np.ones(len(actions), dtype=np.bool_))[0]
    _expect(np.array_equal(again, actions), "expected episode_start to restart, with the actions of no state")
    if state is None:
        return
    rows = np.array([1, 3])
    left = {key: value[rows] for key, value in batch.items()}
    of_some = agent.predict(left, state[rows])[0]
    of_all = agent.predict(batch, state)[0][rows]
    _expect(np.array_equal(of_some, of_all), "expected state[rows] to continue with those rows of the batch")


def _check_episode(agent: Agent, env: gym.Env[Any, Any], seed: int) -> None:
    world: Any = env.unwrapped
    observation, _ = env.reset(seed=seed)
    _show(agent, [world.puzzle])
    state, steps, over = None, 0, False
    while not over:
        action, state = agent.predict(observation, state)
        _expect(env.action_space.contains(action), f"expected actions in {env.action_space}, got {action}")
        observation, _, terminated, truncated, _ = env.step(action)
        steps, over = steps + 1, terminated or truncated
        _expect(steps <= world.max_steps * world.family.attempts, "expected the episode to end within its budget")


def _global_random_states() -> Iterator[NDArray[Any]]:
    yield np.asarray(np.random.get_state(legacy=False)["state"]["key"])  # noqa: NPY002  (looked at, not drawn from)
    if "torch" in sys.modules:
        yield sys.modules["torch"].get_rng_state().numpy()


__all__ = ["check_agent", "check_family"]
