"""Search guided by an HRM: where a thought comes to no end, it guesses a cell every way and thinks on from there.

An HRM that is stuck is in a wrong fixed point, and often sure of symbols that are wrong: in the cell it doubts most the
right symbol need not be among the best two. So a cell is guessed in all the ways that the clues leave open; the network
says which cell, thinks every branch through, and ranks them. The right symbol, once written, makes the puzzle easier,
and a wrong one leads to no answer that keeps the rules (alternating a recursive network with branching search: arXiv
2605.08605). Every answer is checked against the rules before it is given.
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
from hrm_gym.agents.answer_to_action import carry_out_rows
from hrm_gym.agents.hrm import thinking
from hrm_gym.agents.hrm.agent import HRMAgent, Mind
from hrm_gym.envs.puzzle import Thought

DOUBT = 2.0
"""How much the margin between a cell's two best symbols (0 to 1) counts against its number of candidates."""


@dataclass(eq=False)
class Lanes:
    """The trains of thought on B boards, at first one each. `lanes[rows]` keeps some of the boards.

    Attributes:
        owner: (L,) int64, the board each lane belongs to; in rising order.
        clues: (L, H, W) uint8, the puzzle with the lane's guesses written into it.
        fresh: (L,) bool, lanes whose next segment is their first.
        mind: what each lane thinks.
        age: (B,) int64, segments since the boards' lanes last branched, and before, since the start.
        depth: (B,) int64, guesses in each lane of a board.
        halted: (B,) bool, boards with an answer that the network is sure of and that keeps the rules.
        answers: (B, H, W) uint8, the leading answer.
        confidence: (B, H, W) float32, the probabilities of its cells.
        q_halt: (B,) float32.
        spent: (B,) int64, segments run, over all lanes.
    """

    owner: NDArray[np.int64]
    clues: NDArray[np.uint8]
    fresh: NDArray[np.bool_]
    mind: Mind
    age: NDArray[np.int64]
    depth: NDArray[np.int64]
    halted: NDArray[np.bool_]
    answers: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    q_halt: NDArray[np.float32]
    spent: NDArray[np.int64]

    def __getitem__(self, rows: NDArray[np.int64]) -> Lanes:
        rows = np.asarray(rows)
        kept = [np.flatnonzero(self.owner == row) for row in rows]
        lanes = np.concatenate([*kept, np.zeros(0, np.int64)])
        owner = np.repeat(np.arange(len(rows)), [len(own) for own in kept])
        return self._replace_lanes(lanes, owner, rows)

    def _replace_lanes(self, lanes: NDArray[np.int64], owner: NDArray[np.int64], rows: NDArray[np.int64]) -> Lanes:
        boards = ("age", "depth", "halted", "answers", "confidence", "q_halt", "spent")
        return Lanes(
            owner,
            self.clues[lanes],
            self.fresh[lanes],
            self.mind[torch.from_numpy(lanes)],
            *(getattr(self, name)[rows] for name in boards),
        )


class SearchAgent(StatefulAgent):
    """An HRM with beam search over guesses; for networks with interchangeable symbols (mixer "symbols").

    A `predict` in answer mode is one segment of every lane. A board halts when a lane wants to halt with an answer that
    keeps the rules. A board whose lanes have come to nothing after `patience` segments (`look`, once it has guessed)
    branches: in each lane a free cell with few candidates, and little margin between its two best symbols, gets each of
    its candidates, and the `beam` most promising children go on, those whose last answers broke the fewest rules first.
    Candidates of a cell are the symbols that clash with no clue and no earlier guess; a lane in which a cell has none
    is given up.

    Attributes:
        name: what tables call it.
        action_mode: "answer", "cell" or "move".
        member: the network as an agent.
        max_segments: segments, one after the other, that a board gets at most.
    """

    def __init__(
        self, member: HRMAgent, beam: int = 64, patience: int = 8, look: int = 6, max_segments: int = 64, name: str = ""
    ) -> None:
        """Search with a network.

        Args:
            member: the HRM.
            beam: lanes a board has at most, at least 2.
            patience: segments of the first thought, before anything is guessed.
            look: segments of every lane between two guesses.
            max_segments: segments, one after the other, that a board gets; in answer mode the environment has a limit
                of its own.
            name: what tables call it.

        Raises:
            ValueError: a number out of range, or a network whose answers are not made of symbols in cells.
        """
        if member.model.config.mixer != "symbols":
            raise ValueError(
                f"expected a network with the mixer 'symbols', whose guesses can be written into the puzzle, got "
                f"{member.model.config.mixer!r}"
            )
        if beam < 2 or min(patience, look, max_segments) < 1:
            raise ValueError(
                f"expected a beam of at least 2 and patience, look and max_segments of at least 1, got {beam}, "
                f"{patience}, {look}, {max_segments}"
            )
        self.member, self.family, self.action_mode = member, member.family, member.action_mode
        self.beam, self.patience, self.look, self.max_segments = beam, patience, look, max_segments
        self.name = name or f"hrm-search-{beam}"
        self.about, self.weights = member.about, member.weights
        member.max_segments, member.restart = np.iinfo(np.int32).max, 0
        self._lanes: Lanes | None = None

    @classmethod
    def for_env(
        cls,
        env: gym.Env[Any, Any],
        weights: Path | str | None = None,
        beam: int = 64,
        patience: int = 8,
        look: int = 6,
        max_segments: int = 64,
        **kwargs: Any,
    ) -> SearchAgent:
        """The agent for an environment; weights and the rest as `HRMAgent.for_env`."""
        return cls(HRMAgent.for_env(env, weights, **kwargs), beam, patience, look, max_segments)

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """Actions for one observation or a batch; arguments and result are those of `HRMAgent.predict`."""
        single = observation["puzzle"].ndim == 2
        rows = {key: np.asarray(value)[None] for key, value in observation.items()} if single else observation
        puzzles = np.asarray(rows["puzzle"])
        starts = np.array(np.broadcast_to(state is None if episode_start is None else episode_start, len(puzzles)))
        lanes = self._begin(puzzles) if state is None or starts.all() else self._restarted(state, puzzles, starts)
        lanes = self._segment(lanes, puzzles)
        while self.action_mode != "answer" and not self._over(lanes).all():
            lanes = self._segment(lanes, puzzles)
        self._lanes = lanes
        actions = carry_out_rows(self.family, self.action_mode, rows, lanes.answers, self._over(lanes))
        return (actions[0] if single else actions), lanes

    def thoughts(self) -> list[Thought] | None:
        """The leading lane of every board at the last `predict`; `segment` counts those of all lanes together."""
        found = self._lanes
        if found is None:
            return None
        boards = zip(found.answers, found.confidence, found.q_halt, found.spent, strict=True)
        return [Thought(answer, sure, float(q), None, int(spent)) for answer, sure, q, spent in boards]

    def spent(self) -> NDArray[np.int64]:
        """(B,) segments run so far on each board of the last `predict`, summed over lanes."""
        return np.zeros(0, np.int64) if self._lanes is None else self._lanes.spent

    # ---- thinking ----

    def _begin(self, puzzles: NDArray[np.uint8]) -> Lanes:
        """One lane a board."""
        count = len(puzzles)
        zeros = np.zeros(count, np.int64)
        return Lanes(
            owner=np.arange(count),
            clues=puzzles.copy(),
            fresh=np.ones(count, np.bool_),
            mind=self.member.begin(count),
            age=zeros.copy(),
            depth=zeros.copy(),
            halted=np.zeros(count, np.bool_),
            answers=puzzles.copy(),
            confidence=np.zeros(puzzles.shape, np.float32),
            q_halt=np.zeros(count, np.float32),
            spent=zeros,
        )

    def _restarted(self, lanes: Lanes, puzzles: NDArray[np.uint8], starts: NDArray[np.bool_]) -> Lanes:
        """The lanes with the boards of the (B,) bool mask `starts` begun anew."""
        if not starts.any():
            return lanes
        new = self._begin(puzzles)
        pool = _joined(lanes, new)
        rows = np.arange(len(puzzles))
        return pool[np.where(starts, rows + len(puzzles), rows)]

    def _over(self, lanes: Lanes) -> NDArray[np.bool_]:
        """(B,) bool, boards that nothing more is thought about."""
        steps = self.patience * (lanes.depth > 0) + np.maximum(lanes.depth - 1, 0) * self.look + lanes.age
        return lanes.halted | (steps >= self.max_segments)

    def _segment(self, lanes: Lanes, puzzles: NDArray[np.uint8]) -> Lanes:
        """One segment of every lane of the boards that are not over; boards whose time has come branch before it."""
        active = ~self._over(lanes)
        due = active & (lanes.age >= np.where(lanes.depth > 0, self.look, self.patience))
        lanes = self._branched(lanes, puzzles, due) if due.any() else dataclasses.replace(lanes)
        live = np.flatnonzero(active[lanes.owner])
        if len(live) == 0:
            return lanes
        places = torch.from_numpy(live)
        boards = self.member.boards(lanes.clues[live])
        after, wants = self.member.segment(lanes.mind[places], boards, torch.from_numpy(lanes.fresh[live]))
        lanes.mind = lanes.mind.merged(places, after)
        lanes.fresh = lanes.fresh & ~np.isin(np.arange(len(lanes.fresh)), live)
        lanes.age, lanes.spent = (
            lanes.age + active,
            lanes.spent + np.bincount(lanes.owner[live], minlength=len(puzzles)),
        )
        return self._led(lanes, puzzles, live, wants.cpu().numpy())

    def _led(
        self, lanes: Lanes, puzzles: NDArray[np.uint8], live: NDArray[np.int64], wants: NDArray[np.bool_]
    ) -> Lanes:
        """Choose the leading lane of every board: one that is sure and right if there is one, else the surest."""
        owner = lanes.owner[live]
        answers, confidence = self._answers(lanes, live)
        right = self._broken(puzzles[owner], answers) == 0
        q_halt = lanes.mind.q_halt.cpu().numpy()[live]
        order = np.lexsort((-q_halt, ~right, ~(right & wants), owner))
        first = order[np.unique(owner[order], return_index=True)[1]]
        rows = owner[first]
        lanes.halted, lanes.answers = lanes.halted.copy(), lanes.answers.copy()
        lanes.confidence, lanes.q_halt = lanes.confidence.copy(), lanes.q_halt.copy()
        lanes.halted[rows] = (right & wants)[first]
        lanes.answers[rows], lanes.confidence[rows], lanes.q_halt[rows] = (
            answers[first],
            confidence[first],
            q_halt[first],
        )
        return lanes

    def _answers(self, lanes: Lanes, which: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        shape = (len(which), *lanes.clues.shape[1:])
        reading = lanes.mind.reading.rows(torch.from_numpy(which))
        return reading.answers.cpu().numpy().reshape(shape), reading.confidence.cpu().numpy().reshape(shape)

    def _broken(self, puzzles: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.int64]:
        return np.asarray(self.family.count_violations(puzzles, answers), np.int64)

    # ---- guessing ----

    def _branched(self, lanes: Lanes, puzzles: NDArray[np.uint8], due: NDArray[np.bool_]) -> Lanes:
        """The lanes with those of the boards `due` replaced by the best of their children, where they have any."""
        parents = np.flatnonzero(due[lanes.owner])
        cell, worth = self._guesses(lanes, parents)
        answers, _ = self._answers(lanes, parents)
        worth = worth - self._broken(puzzles[lanes.owner[parents]], answers)[:, None]
        parent, symbol = np.nonzero(np.isfinite(worth))
        owner = lanes.owner[parents[parent]]
        order = np.lexsort((-worth[parent, symbol], owner))
        place = np.arange(len(order)) - np.searchsorted(owner[order], owner[order])
        chosen = order[place < self.beam]
        parent, symbol, owner = parent[chosen], symbol[chosen], owner[chosen]
        clues = lanes.clues[parents[parent]].reshape(len(chosen), puzzles[0].size)
        clues[np.arange(len(chosen)), cell[parent]] = np.array(self.family.writable, np.uint8)[symbol]
        stays = np.flatnonzero(~np.isin(lanes.owner, owner))
        return self._with_children(lanes, stays, owner, clues.reshape(-1, *puzzles.shape[1:]), due)

    def _guesses(self, lanes: Lanes, parents: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Of every parent the cell to guess (P,), and what each symbol is worth there (P, symbols): -inf if it clashes.

        All symbols are worth nothing where a cell has no candidate.
        """
        model, carry = self.member.model, lanes.mind.carry.rows(torch.from_numpy(parents))
        with torch.inference_mode():
            logits = model.answer_logits(carry.z_h)[..., model.mixer.first_symbol :]
            chances = torch.softmax(logits.float(), dim=-1).cpu().numpy()  # (P, S, symbols)
        clues = lanes.clues[parents]
        free = self.family.free(clues).reshape(len(parents), -1)
        candidates = self.family.candidates(clues)
        counts = candidates.sum(-1)
        best = np.sort(chances, axis=-1)
        doubt = np.maximum(counts, 2) + DOUBT * (best[..., -1] - best[..., -2])
        cell = np.where(free, doubt, np.inf).argmin(axis=1)
        rows = np.arange(len(parents))
        possible = candidates[rows, cell] & ~(free & (counts == 0)).any(1, keepdims=True)
        worth = np.where(possible, 0.5 * np.log(np.maximum(chances[rows, cell], 1e-3)), -np.inf)
        return cell, worth

    def _with_children(
        self,
        lanes: Lanes,
        stays: NDArray[np.int64],
        owner: NDArray[np.int64],
        clues: NDArray[np.uint8],
        due: NDArray[np.bool_],
    ) -> Lanes:
        """The lanes `stays` and new ones with these owners and clues, in the order of their owners."""
        owners = np.concatenate((lanes.owner[stays], owner))
        order = np.argsort(owners, kind="stable")
        minds = _joined_minds(lanes.mind[torch.from_numpy(stays)], self.member.begin(len(owner)))
        return dataclasses.replace(
            lanes,
            owner=owners[order],
            clues=np.concatenate((lanes.clues[stays], clues))[order],
            fresh=np.concatenate((lanes.fresh[stays], np.ones(len(owner), np.bool_)))[order],
            mind=minds[torch.from_numpy(order)],
            age=np.where(due, 0, lanes.age),
            depth=lanes.depth + due,
        )


def _joined(first: Lanes, second: Lanes) -> Lanes:
    """The boards of both, one after the other."""
    boards = len(first.age)
    arrays = {
        field.name: np.concatenate((getattr(first, field.name), getattr(second, field.name)))
        for field in dataclasses.fields(Lanes)
        if field.name not in ("mind", "owner")
    }
    owner = np.concatenate((first.owner, second.owner + boards))
    return Lanes(owner=owner, mind=_joined_minds(first.mind, second.mind), **arrays)


def _joined_minds(first: Mind, second: Mind) -> Mind:
    """The boards of both, one after the other."""

    def both(one: Any, other: Any) -> list[torch.Tensor]:
        return [torch.cat(pair) for pair in zip(one, other, strict=True)]

    names = ("q_halt", "q_continue", "segments")
    rest = both([getattr(first, name) for name in names], [getattr(second, name) for name in names])
    return Mind(
        type(first.carry)(*both(first.carry, second.carry)),
        thinking.Reading(*both(first.reading, second.reading)),
        *rest,
    )
