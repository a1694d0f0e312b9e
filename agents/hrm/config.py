"""The whole architecture of an HRM in one frozen dataclass. TRM is a setting of it, not another class."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from hrm_gym.reading import convert

Positions = Literal["rope", "rope2d", "learned", "learned_rope2d", "none"]
Halting = Literal["q_learning", "bce"]
Gradient = Literal["one_step", "last_cycle", "bptt"]
Mixer = Literal["attention", "mlp", "symbols", "colours", "convolution"]
Precision = Literal["float32", "bfloat16"]


MOST = {
    "vocab_size": 10**6,
    "hidden_size": 2**16,
    "heads": 2**10,
    "h_layers": 2**8,
    "l_layers": 2**8,
    "h_cycles": 10**4,
    "l_cycles": 10**4,
    "expansion": 2**6,
    "puzzle_count": 10**8,
    "puzzle_dim": 2**20,
    "puzzle_positions": 2**12,
    "max_segments": 10**6,
    "symbols": 2**12,
    "auxiliary": 2**12,
    "mlp_width": 2**20,
}
"""Far above anything that was ever built: a config from a file that asks for more is a mistake, or worse."""


MOST_STATES = 2**20
"""State vectors of a board; those of 30x30 are 900."""


class ModuleSpec(NamedTuple):
    """One recurrent module: its name, its blocks, and at every how many steps it moves."""

    name: str
    layers: int
    period: int


@dataclass(frozen=True)
class HRMConfig:
    """Architecture and halting of a Hierarchical Reasoning Model (arXiv 2506.21734, section 2).

    The defaults are the paper's 27M network. TRM (arXiv 2510.04871) is `shared=True, h_layers=0, l_layers=2,
    h_cycles=3, l_cycles=6, gradient="last_cycle", halting="bce", puzzle_positions=16`.

    Attributes:
        vocab_size: token ids, the padding id 0 included.
        grid: (H, W) of the board; the sequence is its cells in row-major order. A plain sequence of n is (1, n).
        hidden_size: width D of every state vector.
        heads: attention heads; must divide hidden_size into even head widths (multiples of 4 for "rope2d").
        h_layers: blocks of the H-level module; ignored with `shared`.
        l_layers: blocks of the L-level module.
        h_cycles: H-cycles a segment (the paper's N), at least 1.
        l_cycles: L-cycles an H-cycle (the paper's T), at least 1.
        expansion: MLP expansion; the SwiGLU width is this times 2/3, rounded up to a multiple of 256.
        positions: "rope" over the sequence as in the paper, "rope2d" over rows and columns, "learned" vectors added to
            the input, "learned_rope2d" for both (for boards whose cells differ by more than their distance), or "none".
        rope_theta: base of the rotary frequencies.
        puzzle_count: rows of the puzzle embedding, at least 1.
        puzzle_dim: width of a puzzle embedding row; None means hidden_size, 0 means no puzzle embedding.
        puzzle_positions: positions in front of the cells for the puzzle embedding; None means the number it needs.
        max_segments: segments after which training forces a halt (the paper's M_max).
        exploration: probability that a training segment gets a random minimum of segments (the paper's epsilon).
        exploration_least: the least such minimum; the paper's 2, and more to keep training on boards that are solved.
        halting: "q_learning" trains Q(halt) and Q(continue) as in the HRM paper; "bce" trains Q(halt) alone.
        gradient: "one_step" keeps gradient in the last L and the last H call; "last_cycle" in the whole last H-cycle;
            "bptt" in the whole segment, at the price of memory that grows with the cycles.
        levels: 2, or 1 for the recurrent Transformer without hierarchy: h_cycles * l_cycles calls of the L-level module
            on one state, the input injected at each. Needs `shared`.
        shared: one module serves as both levels (TRM).
        mixer: how the states of a board are mixed: "attention"; "mlp" over the sequence (TRM's mlp_t); "symbols", a
            state for every cell and symbol, mixed over lines, boxes and symbols, so that renaming symbols or permuting
            lines permutes the answer and nothing else (symbol equivariance, arXiv 2603.02193); "colours", a state for
            every cell and colour, mixed by attention over cells, neighbourhoods and colours, so that exchanging colours
            in the board and in the task's embedding does the same to the answer; or "convolution" over
            neighbouring cells and whole boards. The last three have no puzzle positions; the last has
            weights for boards of any size.
        symbols: with the mixers "symbols" and "colours", how many of the last token ids are interchangeable.
        box: with the mixer "symbols", (rows, columns) of a box.
        mlp_width: inner width of the gated MLPs; None means what `expansion` gives.
        q_features: what the Q-head of "symbols", "colours" and "convolution" reads: "mean", the mean of all states;
            "worst", also the extremes of a small readout over cells and symbols and the smallest margin of the answer,
            since one wrong cell is enough to be wrong and hardly moves a mean; "drift", also how far the states moved
            in the segment, in the mean and at most, and the margins: what has converged is finished.
        auxiliary: classes of the auxiliary labels (`PuzzleFamily.auxiliary_labels`) that training predicts from the
            H-level state next to the answer, cell by cell; 0 for none. Nothing reads them after training.
        norm_eps: epsilon of the RMS norms.
        dtype: precision of activations; parameters are always float32.
    """

    vocab_size: int
    grid: tuple[int, int]
    hidden_size: int = 512
    heads: int = 8
    h_layers: int = 4
    l_layers: int = 4
    h_cycles: int = 2
    l_cycles: int = 2
    expansion: float = 4.0
    positions: Positions = "rope"
    rope_theta: float = 10000.0
    puzzle_count: int = 1
    puzzle_dim: int | None = None
    puzzle_positions: int | None = None
    max_segments: int = 16
    exploration: float = 0.1
    exploration_least: int = 2
    halting: Halting = "q_learning"
    gradient: Gradient = "one_step"
    levels: Literal[1, 2] = 2
    shared: bool = False
    mixer: Mixer = "attention"
    symbols: int = 0
    box: tuple[int, int] | None = None
    mlp_width: int | None = None
    q_features: Literal["mean", "worst", "drift"] = "mean"
    auxiliary: int = 0
    norm_eps: float = 1e-5
    dtype: Precision = "bfloat16"

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))
        object.__setattr__(self, "box", tuple(self.box) if self.box else None)
        positive = (
            "vocab_size",
            "hidden_size",
            "heads",
            "l_layers",
            "h_cycles",
            "l_cycles",
            "puzzle_count",
            "max_segments",
        )
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"HRMConfig.{name} must be at least 1, got {getattr(self, name)}")
        for name, most in MOST.items():
            if (getattr(self, name) or 0) > most:
                raise ValueError(f"HRMConfig.{name} must be at most {most:,}, got {getattr(self, name):,}")
        for name in ("expansion", "rope_theta", "norm_eps"):
            if not 0 < getattr(self, name) < 1e30:
                raise ValueError(f"HRMConfig.{name} must be positive and below 1e30, got {getattr(self, name)}")
        multiple = self.heads * (4 if self.positions in ("rope2d", "learned_rope2d") else 2)
        if self.mixer in ("attention", "colours") and self.hidden_size % multiple:
            raise ValueError(
                f"hidden_size must be a multiple of {multiple} for {self.heads} heads and positions "
                f"{self.positions!r}, got {self.hidden_size}"
            )
        if len(self.grid) != 2 or min(self.grid) < 1:
            raise ValueError(f"grid must be (H, W) of positive sizes, got {self.grid}")
        if self.length > MOST_STATES:
            raise ValueError(f"expected at most {MOST_STATES:,} state vectors, got {self.length:,} of grid {self.grid}")
        if not self.equivariant and self.prefix * self.hidden_size < self.embedding_dim:
            raise ValueError(f"{self.prefix} puzzle positions cannot hold a puzzle embedding of {self.embedding_dim}")
        if self.levels not in (1, 2) or (self.levels == 1 and not self.shared):
            raise ValueError(f"expected levels 2, or 1 with shared, got {self.levels} with shared={self.shared}")
        if not self.shared and self.h_layers < 1:
            raise ValueError(f"h_layers must be at least 1 unless shared, got {self.h_layers}")
        if self.mlp_width is not None and self.mlp_width < 1:
            raise ValueError(f"mlp_width must be at least 1, got {self.mlp_width}")
        if self.mixer == "symbols":
            self._check_symbols()
        if self.q_features != "mean" and self.mixer in ("attention", "mlp"):
            raise ValueError(f"q_features {self.q_features!r} needs an equivariant mixer, got {self.mixer!r}")
        if self.auxiliary < 0 or (self.auxiliary and self.by_symbol):
            raise ValueError(
                f"auxiliary must be 0, or classes of a mixer with one state a cell, got {self.auxiliary} with "
                f"{self.mixer!r}"
            )
        if self.mixer == "colours" and not 0 < self.symbols < self.vocab_size - 1:
            raise ValueError(
                f"the mixer 'colours' expects one symbol a colour (all tokens but pad and end), got "
                f"{self.symbols} symbols and {self.vocab_size} token ids"
            )

    def _check_symbols(self) -> None:
        side = self.grid[0]
        if self.grid != (side, side) or self.symbols != side or self.symbols >= self.vocab_size:
            raise ValueError(
                f"the mixer 'symbols' expects a square grid and one symbol a column, fewer than token ids, "
                f"got a grid of {self.grid}, {self.symbols} symbols and {self.vocab_size} token ids"
            )
        if self.box is None or len(self.box) != 2 or min(self.box) < 1 or self.box[0] * self.box[1] != side:
            raise ValueError(f"expected a box (rows, columns) of {side} cells, got {self.box}")

    @property
    def cells(self) -> int:
        """Cells of the board: the length of the token sequence."""
        return self.grid[0] * self.grid[1]

    @property
    def length(self) -> int:
        """State vectors of a board (T): the puzzle positions and the cells, or every symbol in every cell."""
        return self.cells * self.symbols if self.by_symbol else self.prefix + self.cells

    @property
    def by_symbol(self) -> bool:
        """Whether there is a state for every symbol in every cell, and the network is symbol-equivariant."""
        return self.mixer in ("symbols", "colours")

    @property
    def equivariant(self) -> bool:
        """Whether the weights know nothing of places, of symbols, or of both."""
        return self.by_symbol or self.mixer == "convolution"

    @property
    def any_grid(self) -> bool:
        """Whether the same weights serve boards of every size."""
        return self.mixer == "convolution"

    @property
    def embedding_dim(self) -> int:
        """Width of one row of the puzzle embedding; 0 without one.

        With the mixer "colours" it holds a vector for every colour, and one for all of them.
        """
        if self.mixer == "colours":
            return (self.symbols + 1) * self.hidden_size
        if self.equivariant:
            return 0
        return self.hidden_size if self.puzzle_dim is None else self.puzzle_dim

    @property
    def prefix(self) -> int:
        """Positions in front of the cells (P)."""
        if self.equivariant:
            return 0
        needed = -(-self.embedding_dim // self.hidden_size)
        return needed if self.puzzle_positions is None else self.puzzle_positions

    @property
    def modules(self) -> tuple[ModuleSpec, ...]:
        """The recurrent modules, fastest first: the paper's L at every step and H at every T-th.

        A third module is one entry more; nothing else in the network counts them.
        """
        if self.levels == 1:
            return (ModuleSpec("l", self.l_layers, 1),)
        return (ModuleSpec("l", self.l_layers, 1), ModuleSpec("h", self.h_layers, self.l_cycles))

    @property
    def steps(self) -> int:
        """Steps of a segment (the paper's N*T)."""
        return self.h_cycles * self.l_cycles

    @property
    def kept_steps(self) -> int:
        """How many of them, counted from the last, keep gradient in training."""
        return {"one_step": 1, "last_cycle": self.steps // self.h_cycles, "bptt": self.steps}[self.gradient]

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.heads

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> HRMConfig:
        """The inverse of `to_json`.

        Raises:
            ValueError: an unknown or a missing field, or one of another type or out of its range; it is named.
        """
        if missing := sorted({"vocab_size", "grid"} - set(values)):
            raise ValueError(f"model settings lack {missing}")
        return convert(values, cls, "model settings")
