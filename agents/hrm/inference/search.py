"""Search guided by an HRM: where the network does not halt, a cell is guessed in every way, each thought through.

An HRM that is stuck is in a wrong fixed point, and often sure of symbols that are wrong: in the cell it doubts most the
right symbol need not be among the best two. So a cell is guessed in all the ways that the clues leave open; the network
says which cell, and ranks the branches. The right symbol, once written, makes the puzzle easier, and a wrong one leads
to no answer that keeps the rules (arXiv 2605.08605).

What the clues leave open, which lanes go on and whether an answer may be given, the rules of the puzzle say; without a
check the network alone does: what it rules out at a glance its first segment tells, and Q(halt) the rest.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from hrm_gym.agents.agent import Observation, StatefulAgent
from hrm_gym.agents.answer_to_action import answers_to_actions
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.thinking import AgentState
from hrm_gym.envs.puzzle import Thought

DOUBT = 2.0
"""How much the margin between a cell's two best symbols (0 to 1) counts against its number of candidates."""

LEAST = 128
"""Segments, one after the other, that a search for an environment may have at least."""

UNLIMITED = int(np.iinfo(np.int32).max)

OPEN = 0.01
"""Probability after the first segment from which a symbol is a candidate, where the rules are not asked."""


@dataclass(frozen=True, eq=False)
class SearchState:
    """The lanes of B boards, at first one each. `state[rows]` keeps some of the boards.

    Attributes:
        owner: (L,) int64, the board each lane belongs to; in rising order.
        clues: (L, H, W) uint8, the puzzle with the lane's guesses written into it.
        open: (L, H * W, symbols) bool, what the lane's first segment did not rule out; all before it, and with a check.
        lanes: what the network thinks in each lane.
        age: (B,) int64, segments since the boards' lanes last branched, and before, since the start.
        depth: (B,) int64, guesses in each lane of a board.
        halted: (B,) bool, boards with an answer that the network is sure of, and with a check one that keeps the rules.
        answers: (B, H, W) uint8, the leading answer.
        confidence: (B, H, W) float32, the probabilities of its cells.
        q_halt: (B,) float32.
        spent: (B,) int64, segments run, over all lanes.
    """

    owner: NDArray[np.int64]
    clues: NDArray[np.uint8]
    open: NDArray[np.bool_]
    lanes: AgentState
    age: NDArray[np.int64]
    depth: NDArray[np.int64]
    halted: NDArray[np.bool_]
    answers: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    q_halt: NDArray[np.float32]
    spent: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.age)

    def __getitem__(self, rows: NDArray[np.int64]) -> SearchState:
        rows = np.asarray(rows)
        kept = [np.flatnonzero(self.owner == row) for row in rows]
        lanes = np.concatenate([*kept, np.zeros(0, np.int64)])
        owner = np.repeat(np.arange(len(rows)), [len(own) for own in kept])
        boards = {name: getattr(self, name)[rows] for name in BOARD_ARRAYS}
        return SearchState(owner, self.clues[lanes], self.open[lanes], self.lanes[lanes], **boards)

    def joined(self, other: SearchState) -> SearchState:
        """The boards of both, one after the other."""
        owner = np.concatenate((self.owner, other.owner + len(self)))
        clues, open_ = np.concatenate((self.clues, other.clues)), np.concatenate((self.open, other.open))
        boards = {name: np.concatenate((getattr(self, name), getattr(other, name))) for name in BOARD_ARRAYS}
        return SearchState(owner, clues, open_, AgentState.joined([self.lanes, other.lanes]), **boards)


BOARD_ARRAYS = ("age", "depth", "halted", "answers", "confidence", "q_halt", "spent")
"""The fields of a SearchState that have an entry for each board; those of the others are for lanes."""


class SearchAgent(StatefulAgent):
    """An HRM with beam search over guesses; for networks with interchangeable symbols (mixer "symbols").

    A `predict` in answer mode is one segment of every lane. A board halts when a lane wants to halt, with `check` only
    with an answer that keeps the rules. A board whose lanes have come to nothing after `patience` segments (`look`,
    once it has guessed) branches: in each lane a free cell with few candidates, and little margin between its two best
    symbols, gets each of its candidates, and the `beam` best children remain, or those that the budget has a segment
    for.

    With `check`, candidates of a cell are the symbols that clash with no clue and no earlier guess, a lane in which a
    cell has none is given up, and those go on whose last answers broke the fewest rules. Without, candidates are what
    the lane's first segment did not rule out (`OPEN`), and those with the highest Q(halt) go on: no rule is asked.

    Attributes:
        name: what tables call it.
        action_mode: "answer", "cell" or "move".
        member: the network as an agent.
        max_segments: segments, one after the other, that a board gets at most.
        budget: segments of all lanes together that a board gets at most.
    """

    def __init__(
        self,
        member: HRMAgent,
        beam: int = 64,
        patience: int = 8,
        look: int = 16,
        max_segments: int = LEAST,
        budget: int | None = None,
        check: bool = True,
        name: str = "",
    ) -> None:
        """Search with a network.

        Args:
            member: the HRM; its restarts and its check do not count.
            beam: lanes a board has at most, at least 2.
            patience: segments of the first thought, before anything is guessed.
            look: segments of every lane between two guesses.
            max_segments: segments, one after the other, that a board gets; in answer mode the environment has a limit
                of its own.
            budget: segments of all lanes together that a board gets; None for any number.
            check: ask the rules of the puzzle; without, the network alone decides.
            name: what tables call it.

        Raises:
            ValueError: a number out of range, or a network whose answers are not made of symbols in cells.
        """
        if member.model.config.mixer != "symbols":
            raise ValueError(
                f"expected a network with the mixer 'symbols', whose guesses can be written into the puzzle, got "
                f"{member.model.config.mixer!r}"
            )
        budget = UNLIMITED if budget is None else budget
        if beam < 2 or min(patience, look, max_segments, budget) < 1:
            raise ValueError(
                f"expected a beam of at least 2 and patience, look, max_segments and budget of at least 1, got {beam}, "
                f"{patience}, {look}, {max_segments}, {budget}"
            )
        self.member, self.family, self.action_mode = member, member.family, member.action_mode
        self.grid, self.vocab_size = member.grid, member.vocab_size
        self.beam, self.patience, self.look = beam, patience, look
        self.max_segments, self.budget, self.check = max_segments, budget, check
        self.name = name or f"hrm-search-{beam}"
        self.about, self.weights = member.about, member.weights
        # how long a board gets is the search's business, what is asked of the rules too; a guess replaces a restart
        self.rules = dataclasses.replace(member.rules, max_segments=UNLIMITED, check=None, restart=0)
        self._seen: SearchState | None = None

    @classmethod
    def for_env(
        cls,
        env: gym.Env[Any, Any],
        weights: Path | str | None = None,
        beam: int = 64,
        patience: int = 8,
        look: int = 16,
        max_segments: int | None = None,
        budget: int | None = None,
        check: bool = True,
        **kwargs: Any,
    ) -> SearchAgent:
        """The agent for an environment, by default with its `max_segments`, but 128 at least; weights and the others as
        `HRMAgent.for_env`."""
        world: Any = env.unwrapped
        limit = max(LEAST, world.max_segments) if max_segments is None else max_segments
        return cls(HRMAgent.for_env(env, weights, **kwargs), beam, patience, look, limit, budget, check)

    def decide(
        self, observation: Observation, state: SearchState | None, starts: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], SearchState]:
        """Answer mode: one segment of every lane. Other modes: all of them, until every board is over."""
        puzzles, rows = observation["puzzle"], np.arange(len(starts))
        if state is None:
            state = self._begin(puzzles)
        elif starts.any():
            state = state.joined(self._begin(puzzles))[np.where(starts, rows + len(rows), rows)]
        state = self._segment(state, puzzles) if self.action_mode == "answer" else self._finished(state, puzzles)
        self._seen = state
        return answers_to_actions(self.family, self.action_mode, observation, state.answers, self._over(state)), state

    def thoughts(self) -> list[Thought] | None:
        """The leading lane of every board at the last `predict`; `segment` counts those of all lanes together."""
        found = self._seen
        if found is None:
            return None
        over = self._over(found)
        sure = "a sure answer that breaks no rule: halts" if self.check else "a sure answer: halts"
        words = np.where(found.halted, sure, np.where(over, "budget spent: halts", ""))
        lanes = np.bincount(found.owner, minlength=len(found))
        return [
            Thought(
                found.answers[i],
                found.confidence[i],
                float(found.q_halt[i]),
                segment=int(found.spent[i]),
                reason=str(words[i]) or ("guesses one cell more in every lane" if self._branches(found)[i] else None),
                event="halts" if over[i] else "",
                facts=(
                    ("Lanes", str(lanes[i])),
                    ("Cells guessed in each", str(found.depth[i])),
                    ("Segments of all lanes", str(found.spent[i])),
                ),
            )
            for i in range(len(found))
        ]

    def spent(self) -> NDArray[np.int64]:
        """(B,) segments run so far on each board of the last `predict`, summed over lanes."""
        return np.zeros(0, np.int64) if self._seen is None else self._seen.spent

    @property
    def halting_rules(self) -> str:
        """Those of the network, and the search; with a check a board halts only with an answer that breaks no rule."""
        check = " + rule check" if self.check else ""
        budget = "" if self.budget == UNLIMITED else f", {self.budget} segments of all lanes"
        return f"{self.rules}{check} + search beam {self.beam}{budget}"

    def solve(self, puzzles: NDArray[np.uint8]) -> SearchState:
        """What becomes of B puzzles (B, H, W) in the end."""
        return self._finished(self._begin(puzzles), puzzles)

    # ---- thinking ----

    def _finished(self, state: SearchState, puzzles: NDArray[np.uint8]) -> SearchState:
        """The state when every board is over."""
        while not self._over(state).all():
            state = self._segment(state, puzzles)
        return state

    def _begin(self, puzzles: NDArray[np.uint8]) -> SearchState:
        """One lane for each board."""
        count = len(puzzles)
        zeros = np.zeros(count, np.int64)
        return SearchState(
            owner=np.arange(count),
            clues=puzzles.copy(),
            open=self._all_open(count),
            lanes=AgentState.before(self.member.model, count),
            age=zeros,
            depth=zeros,
            halted=np.zeros(count, np.bool_),
            answers=puzzles.copy(),
            confidence=np.zeros(puzzles.shape, np.float32),
            q_halt=np.zeros(count, np.float32),
            spent=zeros,
        )

    def _over(self, state: SearchState) -> NDArray[np.bool_]:
        """(B,) bool, boards that are finished, or cannot afford another segment of all their lanes."""
        steps = self.patience * (state.depth > 0) + np.maximum(state.depth - 1, 0) * self.look + state.age
        lanes = np.bincount(state.owner, minlength=len(state))
        return state.halted | (steps >= self.max_segments) | (state.spent + lanes > self.budget)

    def _branches(self, state: SearchState) -> NDArray[np.bool_]:
        """(B,) bool, boards that guess before their next segment, if they are not over."""
        return np.asarray(state.age >= np.where(state.depth > 0, self.look, self.patience))

    def _segment(self, state: SearchState, puzzles: NDArray[np.uint8]) -> SearchState:
        """One segment of every lane of the boards that are not over; boards whose time has come branch before it."""
        active = ~self._over(state)
        due = active & self._branches(state)
        if due.any():
            state = self._branched(state, puzzles, due)
        live = np.flatnonzero(active[state.owner])
        if len(live) == 0:
            return state
        step = next(self.member.think(self.member.boards(state.clues[live]), state.lanes[live], rules=self.rules))
        open_ = state.open
        if not self.check and len(new := np.flatnonzero(step.state.segments.cpu().numpy() == 1)):
            open_ = open_.copy()
            open_[live[new]] = self._chances(step.state[new]) > OPEN
        # the leading lane of every board: one that is sure and right if there is one, else the surest
        owner, q_halt, wants = state.owner[live], step.state.q_halt.cpu().numpy(), step.state.halted.cpu().numpy()
        answers, confidence = _grids(step.state, puzzles.shape[1:])
        right = self._broken(puzzles[owner], answers) == 0 if self.check else np.ones(len(live), np.bool_)
        order = np.lexsort((-q_halt, ~right, ~(right & wants), owner))
        first = order[np.unique(owner[order], return_index=True)[1]]
        rows = owner[first]
        led = {name: getattr(state, name).copy() for name in ("halted", "answers", "confidence", "q_halt")}
        led["halted"][rows], led["answers"][rows] = (right & wants)[first], answers[first]
        led["confidence"][rows], led["q_halt"][rows] = confidence[first], q_halt[first]
        return dataclasses.replace(
            state,
            open=open_,
            lanes=state.lanes.put(torch.from_numpy(live).to(self.member.device), step.state),
            age=state.age + active,
            spent=state.spent + np.bincount(owner, minlength=len(puzzles)),
            **led,
        )

    def _broken(self, puzzles: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.int64]:
        return np.asarray(self.family.count_violations(puzzles, answers), np.int64)

    # ---- guessing ----

    def _branched(self, state: SearchState, puzzles: NDArray[np.uint8], due: NDArray[np.bool_]) -> SearchState:
        """The lanes of the boards `due` replaced by the best of their children, where they have any."""
        parents = np.flatnonzero(due[state.owner])
        lanes, clues = state.lanes[parents], state.clues[parents]
        if self.check:
            candidates = self.family.candidates(clues)
            answers, _ = _grids(lanes, puzzles.shape[1:])
            worth = -self._broken(puzzles[state.owner[parents]], answers).astype(np.float64)
        else:
            candidates, worth = state.open[parents], lanes.q_logits[:, 0].cpu().numpy().astype(np.float64)
        cell, worth = self.guesses(lanes, clues, candidates, worth)
        parent, symbol = np.nonzero(np.isfinite(worth))
        owner = state.owner[parents[parent]]
        order = np.lexsort((-worth[parent, symbol], owner))
        place = np.arange(len(order)) - np.searchsorted(owner[order], owner[order])
        chosen = order[place < np.minimum(self.beam, self.budget - state.spent)[owner[order]]]
        parent, symbol, owner = parent[chosen], symbol[chosen], owner[chosen]
        clues = state.clues[parents[parent]].reshape(len(chosen), puzzles[0].size)
        clues[np.arange(len(chosen)), cell[parent]] = np.array(self.family.writable, np.uint8)[symbol]
        stays = np.flatnonzero(~np.isin(state.owner, owner))
        owners = np.concatenate((state.owner[stays], owner))
        order = np.argsort(owners, kind="stable")
        children = AgentState.before(self.member.model, len(owner))
        return dataclasses.replace(
            state,
            owner=owners[order],
            clues=np.concatenate((state.clues[stays], clues.reshape(-1, *puzzles.shape[1:])))[order],
            open=np.concatenate((state.open[stays], self._all_open(len(chosen))))[order],
            lanes=AgentState.joined([state.lanes[stays], children])[order],
            age=np.where(due, 0, state.age),
            depth=state.depth + due,
        )

    def guesses(
        self,
        lanes: AgentState,
        clues: NDArray[np.uint8],
        candidates: NDArray[np.bool_],
        worth: NDArray[np.float64],
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Of every parent the cell to guess (P,), and what each symbol is worth there (P, symbols): -inf for none.

        Args:
            lanes: what the network thinks in P parents.
            clues: (P, H, W), the puzzles with the guesses so far.
            candidates: (P, H * W, symbols). All symbols are worth nothing where a free cell has no candidate.
            worth: (P,), what the parents are worth.
        """
        chances = self._chances(lanes)
        free = self.family.free(clues).reshape(len(clues), -1)
        counts = candidates.sum(-1)
        best = np.sort(chances, axis=-1)
        doubt = np.maximum(counts, 2) + DOUBT * (best[..., -1] - best[..., -2])
        cell = np.where(free, doubt, np.inf).argmin(axis=1)
        rows = np.arange(len(clues))
        possible = candidates[rows, cell] & ~(free & (counts == 0)).any(1, keepdims=True)
        likely = 0.5 * np.log(np.maximum(chances[rows, cell], 1e-3))
        return cell, np.where(possible, worth[:, None] + likely, -np.inf)

    def _chances(self, lanes: AgentState) -> NDArray[np.float32]:
        """(L, H * W, symbols) float32, the probability of every symbol."""
        model = self.member.model
        with torch.inference_mode():
            logits = model.answer_logits(lanes.carry.z_h)[..., model.mixer.first_symbol :]
            return np.asarray(torch.softmax(logits.float(), dim=-1).cpu().numpy(), np.float32)

    def _all_open(self, count: int) -> NDArray[np.bool_]:
        """`SearchState.open` of lanes without a segment."""
        return np.ones((count, self.grid[0] * self.grid[1], len(self.family.writable)), np.bool_)


def _grids(lanes: AgentState, grid: tuple[int, ...]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Answers and confidence, (L, H, W) each."""
    answers, confidence = (part.cpu().numpy().reshape(-1, *grid) for part in (lanes.answers, lanes.confidence))
    return answers, confidence
