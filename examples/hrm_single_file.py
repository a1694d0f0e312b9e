"""A Hierarchical Reasoning Model in one file: read it from top to bottom.

HRM (arXiv 2506.21734) learns to solve puzzles with two recurrent modules: L moves at every step, H at every T-th. It
answers after every *segment* of N*T steps, is supervised there (deep supervision), and learns itself when to stop
(adaptive computation time, ACT). A segment is a step of this package's environments: the action is the answer grid and
a halt bit. Each part names its section of the paper. `agents/hrm/model.py` is the same network with more settings; a
test holds both to each other and to the numbers of the official code.

    python examples/hrm_single_file.py                          4x4 Sudoku, a minute or two of one core
    python examples/hrm_single_file.py --env HRMMaze-v0 --updates 20000 --hidden-size 128

Measured on 4x4 Sudoku with the settings below, seed 0: by its own decision it solves 97.4 % of 1,000 held-out puzzles
in 2.18 segments on average, after 97 s of CPU time on one core (virtual machine, AMD EPYC, PyTorch 2.13.0, 2026-11-26).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hrm_gym  # noqa: F401  (registers the environments)
from hrm_gym.envs.puzzle import puzzle_keys

# Shapes: B boards, S = H*W cells, T = 1 + S positions (a puzzle vector before the cells), D = hidden_size, V tokens.


@dataclass(frozen=True)
class Config:
    """Network and training. The paper's 27M network: hidden_size 512, heads 8, 4 + 4 layers, max_segments 16."""

    vocab_size: int
    grid: tuple[int, int]
    hidden_size: int = 64
    heads: int = 2
    h_layers: int = 2
    l_layers: int = 2
    h_cycles: int = 2  # N
    l_cycles: int = 2  # T
    positions: str = "learned"  # or "rope"; both without rows and columns, so boxes and neighbours have to be learnt
    puzzle_count: int = 1  # rows of the puzzle embedding: one for Sudoku and mazes, one a task for ARC
    max_segments: int = 4  # M_max
    exploration: float = 0.1  # epsilon: how often a random minimum of segments is asked for
    env: str = "HRMSudokuMini-v0"
    batch_size: int = 64
    updates: int = 1000
    lr: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    seed: int = 0
    test_puzzles: int = 1000


# ---- the modules: Transformer blocks (section 2, "Hierarchical Reasoning Model", and 3.2, "Evaluation Details") ----


def truncated_normal(*shape: int, std: float) -> Tensor:
    """Normal draws cut at two sigmas and rescaled, so that their standard deviation is `std` exactly."""
    density, mass = math.exp(-2) / math.sqrt(2 * math.pi), math.erf(math.sqrt(2))
    scale = std / math.sqrt(1 - 4 * density / mass)
    return nn.init.trunc_normal_(torch.empty(shape), std=scale, a=-2 * scale, b=2 * scale)


def rms_norm(x: Tensor) -> Tensor:
    """Root-mean-square norm without gain."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)


class Linear(nn.Module):
    """A linear map without bias, initialised so that it keeps the size of its input (LeCun)."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(truncated_normal(fan_out, fan_in, std=fan_in**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class Attention(nn.Module):
    """Full multi-head self-attention: every cell sees every other."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size)
        self.out = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        batch, length, hidden = x.shape
        qkv = self.qkv(x).view(batch, length, 3 * self.heads, hidden // self.heads).transpose(1, 2)
        q, k, v = qkv.chunk(3, dim=1)  # (B, heads, T, D / heads) each
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, hidden))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions: turn each pair of numbers (i, i + half) by an angle that grows with the position."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class SwiGLU(nn.Module):
    """Gated MLP; its width is 4 * 2/3 of the hidden size, rounded up to a multiple of 256."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        width = -(-round(4 * hidden * 2 / 3) // 256) * 256
        self.gate_up = Linear(hidden, 2 * width)
        self.down = Linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    """Post-norm: the norm comes after each sum, so that a state keeps its size however often a module is applied."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.mlp = SwiGLU(config.hidden_size)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        x = rms_norm(x + self.attention(x, rotary))
        return rms_norm(x + self.mlp(x))


class Level(nn.Module):
    """One recurrent module: what is injected is added to its state, and its blocks make the next state of the sum."""

    def __init__(self, config: Config, layers: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(layers))

    def forward(self, state: Tensor, injection: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        x = state + injection
        for block in self.blocks:
            x = block(x, rotary)
        return x


# ---- the network: two modules, two heads, one segment (section 2, equations 1 to 4) ----


Carry = tuple[Tensor, Tensor]
"""What one segment leaves to the next: z_H and z_L, each (B, T, D)."""


class HRM(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, hidden = config, config.hidden_size
        length = 1 + config.grid[0] * config.grid[1]
        self.tokens = nn.Parameter(truncated_normal(config.vocab_size, hidden, std=hidden**-0.5))
        self.puzzles = nn.Parameter(torch.zeros(config.puzzle_count, hidden))
        self.rotary = None
        if config.positions == "learned":
            self.positions = nn.Parameter(truncated_normal(length, hidden, std=hidden**-0.5))
        else:
            width = hidden // config.heads
            frequencies = 1 / 10000 ** (torch.arange(0, width, 2) / width)
            angles = torch.outer(torch.arange(length), frequencies).repeat(1, 2)
            self.rotary = (angles.cos(), angles.sin())
        self.l_level = Level(config, config.l_layers)
        self.h_level = Level(config, config.h_layers)
        self.answer_head = Linear(hidden, config.vocab_size)
        self.q_head = nn.Linear(hidden, 2)
        nn.init.zeros_(self.q_head.weight)
        nn.init.constant_(self.q_head.bias, -5.0)  # both Q-values near 0: at first it never wants to halt
        self.register_buffer("h_init", truncated_normal(hidden, std=1.0))  # not trained, the same at every position
        self.register_buffer("l_init", truncated_normal(hidden, std=1.0))

    def initial_carry(self, batch: int) -> Carry:
        """The states of new boards."""
        shape = (batch, 1 + self.config.grid[0] * self.config.grid[1], self.config.hidden_size)
        return self.h_init.expand(shape), self.l_init.expand(shape)

    def embed(self, tokens: Tensor, puzzles: Tensor) -> Tensor:
        """(B, T, D), the input x of equation 1: the puzzle's own vector, then one for each cell's token."""
        x = torch.cat((puzzles[:, None], F.embedding(tokens.long(), self.tokens)), dim=1)
        if self.config.positions == "learned":
            x = math.sqrt(0.5) * (x + self.positions)
        return math.sqrt(self.config.hidden_size) * x

    def recur(self, carry: Carry, x: Tensor) -> Carry:
        """One segment: N cycles of T steps of L and one of H (equations 2 and 3).

        Gradient passes through the last step of each module alone ("Approximate gradient"): at a fixed point of the
        recurrence that is the leading term of the exact gradient, and memory does not grow with N*T.
        """
        z_h, z_l = carry
        steps = self.config.h_cycles * self.config.l_cycles
        with_gradient = torch.is_grad_enabled()
        for step in range(1, steps + 1):
            with torch.set_grad_enabled(with_gradient and step == steps):
                z_l = self.l_level(z_l, z_h + x, self.rotary)
                if step % self.config.l_cycles == 0:
                    z_h = self.h_level(z_h, z_l, self.rotary)
        return z_h, z_l

    def forward(self, carry: Carry, tokens: Tensor, puzzles: Tensor) -> tuple[Carry, Tensor, Tensor, Tensor]:
        """One segment, given clues (B, S) and puzzle vectors (B, D).

        Returns the next carry, without gradient; answer logits (B, S, V); Q(halt) and Q(continue) logits (B,), which
        are read off the puzzle's own position.
        """
        z_h, z_l = self.recur(carry, self.embed(tokens, puzzles))
        q_halt, q_continue = self.q_head(z_h[:, 0]).unbind(-1)
        return (z_h.detach(), z_l.detach()), self.answer_head(z_h[:, 1:]), q_halt, q_continue


# ---- losses of one segment (section 2, "Deep supervision" and "Adaptive computation time") ----


def stablemax_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with s(x) = x + 1, or 1 / (1 - x) below 0, in place of exp(x): (…, V), (…) -> (…)."""
    logits = logits.double()
    shares = torch.where(logits < 0, 1 / (1 - logits + 1e-30), logits + 1)
    return -torch.log(shares / shares.sum(-1, keepdim=True)).gather(-1, labels[..., None])[..., 0]


def segment_loss(
    logits: Tensor, labels: Tensor, q_halt: Tensor, q_continue: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """The loss, summed over boards, and which boards are answered exactly: what Q(halt) should predict.

    Logits (B, S, V), solutions (B, S), Q logits (B,) and what Q(continue) should predict, (B,) probabilities.
    """
    counted = labels > 0  # padding does not count
    exact = ((logits.argmax(-1) == labels) | ~counted).all(-1)
    losses = stablemax_cross_entropy(logits, labels) * counted
    answer = (losses.sum(-1) / counted.sum(-1).clamp(min=1)).sum()
    halting = F.binary_cross_entropy_with_logits(q_halt, exact.float(), reduction="sum")
    going_on = F.binary_cross_entropy_with_logits(q_continue, target, reduction="sum")
    return answer + 0.5 * (halting + going_on), exact


@torch.no_grad()
def continue_target(model: HRM, carry: Carry, segments: Tensor, tokens: Tensor, puzzles: Tensor) -> Tensor:
    """What Q(continue) should be: the value of the better action after one segment more, by the same network.

    Q-learning on an episode of segments: continuing pays 0, halting pays 1 for a right answer; the last halt is forced.
    """
    _, _, q_halt, q_continue = model(carry, tokens, puzzles)
    last = segments >= model.config.max_segments
    return torch.sigmoid(torch.where(last, q_halt, torch.maximum(q_halt, q_continue)))


# ---- optimisers (section 3.2: Adam-atan2 with a constant rate; decay to 0 suits short runs like this one) ----


class AdamATan2(torch.optim.Optimizer):
    """Adam with atan2(m, sqrt(v)) in place of m / (sqrt(v) + epsilon): it does not depend on the loss's scale."""

    def __init__(self, parameters: Iterator[nn.Parameter], config: Config) -> None:
        super().__init__(parameters, {"lr": config.lr, "betas": config.betas, "decay": config.weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            (beta1, beta2), lr = group["betas"], group["lr"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(step=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
                state["step"] += 1
                state["m"].lerp_(p.grad, 1 - beta1)
                state["v"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                size = state["v"].sqrt() / math.sqrt(1 - beta2 ** state["step"])
                p.mul_(1 - lr * group["decay"])
                p.sub_(torch.atan2(state["m"], size), alpha=lr / (1 - beta1 ** state["step"]))


@torch.no_grad()
def sign_sgd(rows: Tensor, ids: Tensor, gradient: Tensor, lr: float, decay: float) -> None:
    """The puzzle embedding learns by the sign of its gradient, and only the rows (R, D) that the batch used."""
    used = ids.unique()
    sums = torch.zeros_like(rows).index_add_(0, ids, gradient)
    rows[used] = rows[used] * (1 - lr * decay) - lr * sums[used].sign()


def learning_rate(update: int, config: Config) -> float:
    """Linear warm-up, then a straight line to 0."""
    rise = update / max(1, config.warmup)
    fall = (config.updates - update) / max(1, config.updates - config.warmup)
    return config.lr * min(1.0, rise, fall)


# ---- training: slots of boards, one segment and one update at a time (section 2; figure 4 has the pseudo-code) ----


@dataclass
class Slots:
    """The boards under way. One that halts makes room for the next puzzle before the next segment."""

    carry: Carry
    tokens: Tensor  # (B, S) int64
    labels: Tensor  # (B, S) int64
    ids: Tensor  # (B,) int64, rows of the puzzle embedding
    segments: Tensor  # (B,) int64, segments run
    halted: Tensor  # (B,) bool

    @classmethod
    def empty(cls, model: HRM, batch: int) -> Slots:
        grid = torch.zeros(batch, model.config.grid[0] * model.config.grid[1], dtype=torch.int64)
        ids, halted = torch.zeros(batch, dtype=torch.int64), torch.ones(batch, dtype=torch.bool)
        return cls(model.initial_carry(batch), grid, grid.clone(), ids, ids.clone(), halted)

    def refill(self, model: HRM, tokens: Tensor, labels: Tensor, ids: Tensor) -> None:
        """Put row i of what is given into slot i where slot i has halted."""
        new = self.halted[:, None]
        (z_h, z_l), start = self.carry, model.initial_carry(len(self.ids))
        self.carry = torch.where(new[..., None], start[0], z_h), torch.where(new[..., None], start[1], z_l)
        self.tokens = torch.where(new, tokens, self.tokens)
        self.labels = torch.where(new, labels, self.labels)
        self.ids = torch.where(self.halted, ids, self.ids)
        self.segments = torch.where(self.halted, 0, self.segments)


def train_step(
    model: HRM, optimizer: AdamATan2, slots: Slots, minimum: Tensor, puzzle_lr: float
) -> tuple[float, Tensor]:
    """One segment on every slot and one update; the carry goes on without gradient, so memory is that of one segment.

    No board halts before its `minimum` (B,) of segments. Returns the mean loss, and which boards are answered exactly.
    """
    puzzles = model.puzzles.detach()[slots.ids].requires_grad_()
    carry, logits, q_halt, q_continue = model(slots.carry, slots.tokens, puzzles)
    slots.segments = slots.segments + 1
    slots.halted = (slots.segments >= model.config.max_segments) | (q_halt > q_continue)
    slots.halted &= slots.segments >= minimum
    target = continue_target(model, carry, slots.segments, slots.tokens, puzzles)
    loss, exact = segment_loss(logits, slots.labels, q_halt, q_continue, target)
    loss = loss / len(exact)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    sign_sgd(model.puzzles.data, slots.ids, puzzles.grad, puzzle_lr, model.config.weight_decay)
    slots.carry = carry
    return loss.item(), exact


def train(config: Config) -> HRM:
    """Train on new puzzles of the environment's training split."""
    torch.manual_seed(config.seed)
    env = gym.make(config.env, source="generate", split="train").unwrapped
    model = HRM(config)
    optimizer = AdamATan2((p for name, p in model.named_parameters() if name != "puzzles"), config)
    slots, fed, begin = Slots.empty(model, config.batch_size), 0, time.perf_counter()
    for update in range(1, config.updates + 1):
        numbers = np.arange(fed, fed + config.batch_size, dtype=np.uint64)
        batch = env.puzzle_source.batch(puzzle_keys(np.array([config.seed], dtype=np.uint64), numbers))
        tokens, labels = (
            torch.from_numpy(grids.reshape(len(grids), -1).astype(np.int64)) for grids in (batch.clues, batch.solutions)
        )
        fed += config.batch_size  # as in the official code, puzzles for slots that are not free are dropped
        slots.refill(model, tokens, labels, torch.from_numpy(batch.puzzle_ids.astype(np.int64)))
        explores = torch.rand(config.batch_size) < config.exploration
        minimum = torch.where(explores, torch.randint(2, config.max_segments + 1, explores.shape), 0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(update, config)
        loss, exact = train_step(model, optimizer, slots, minimum, puzzle_lr=group["lr"])
        if update % max(1, config.updates // 10) == 0:
            seconds = time.perf_counter() - begin
            print(f"update {update}: loss {loss:.3f}, exact {exact.float().mean():.2f}, {seconds:.0f} s", flush=True)
    return model


# ---- evaluation: the network plays the environment and halts by itself (section 2, "Inference-time scaling") ----


@torch.no_grad()
def evaluate(model: HRM, max_segments: int | None = None) -> tuple[float, float]:
    """Share of held-out puzzles solved by the network's own decision, and segments used on average.

    `max_segments` is where the environment forces a halt; more than in training may solve more.
    """
    config, count = model.config, model.config.test_puzzles
    budget = max_segments or config.max_segments
    envs = gym.make_vec(config.env, num_envs=count, source="generate", split="test", max_segments=budget)
    observation, _ = envs.reset(seed=config.seed)
    carry = model.initial_carry(count)
    solved, segments, running = np.zeros(count, bool), np.zeros(count, int), np.ones(count, bool)
    while running.any():
        tokens = torch.from_numpy(observation["puzzle"].reshape(count, -1).astype(np.int64))
        ids = torch.from_numpy(observation["task"][:, 0]).long() if "task" in observation else torch.zeros(count).long()
        carry, logits, q_halt, q_continue = model(carry, tokens, model.puzzles[ids])
        answer = logits[..., 1:].argmax(-1) + 1  # token 0 is padding
        action = torch.cat((answer, (q_halt > q_continue)[:, None]), dim=1).numpy()
        observation, _, terminated, _, info = envs.step(action)
        segments += running
        ended = running & terminated  # a board plays its next puzzle after that, which is not counted
        if ended.any():
            solved[ended] = info["solved"][ended]
        running &= ~terminated
    return float(solved.mean()), float(segments.mean())


def main() -> None:
    """Train and evaluate; every field of `Config` is an option."""
    parser = argparse.ArgumentParser(description="Train an HRM on an environment's puzzles.")
    for field in fields(Config):
        if isinstance(field.default, int | float | str):
            name = field.name.replace("_", "-")
            parser.add_argument(f"--{name}", type=type(field.default), default=field.default, metavar="X")
    options = vars(parser.parse_args())
    torch.set_num_threads(1)  # a network as small as this is slower on more cores, which wait for each other
    env = gym.make(options["env"]).unwrapped
    model = train(Config(vocab_size=env.family.vocab_size, grid=env.shape, **options))
    solved, segments = evaluate(model)
    print(f"solved {100 * solved:.1f} % of {options['test_puzzles']} held-out puzzles in {segments:.2f} segments each")


if __name__ == "__main__":
    main()
