"""`hrm-gym bench --peers`: environments of other packages next to ours, in turns within one run.

Every world plays random actions drawn beforehand, legal ones where it says which are, with its own automatic reset;
ours through `gym.make` or `gym.make_vec`, Jumanji's in compiled loops.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium as gym

from hrm_gym.scripts.bench.timing import Contest, Turn
from hrm_gym.scripts.bench.worlds import BATCH_STEPS, BOARDS, STEPS, acting, replaying, stepping, stepping_many


def contests() -> Iterator[Contest]:
    """One contest for each kind of world of which a peer is installed; a line on stderr for each that is not."""
    for module, makers in PEERS.items():
        if not installed(module):
            print(f"{module} is not installed: pip install {module}", file=sys.stderr)
            continue
        for make in makers:
            try:
                yield make()
            except Exception as error:
                print(f"{module} does not run here: {type(error).__name__}: {error}", file=sys.stderr)


def installed(module: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(module) is not None


def against_jumanji(name: str, ours: str, mode: str, title: str, many: bool) -> Contest:
    """One board, or many, of a Jumanji environment against ours."""
    if many:
        mine = stepping_many(gym.make_vec(ours, num_envs=BOARDS, action_mode=mode))
    else:
        mine = stepping(gym.make(ours, action_mode=mode))
    title += f", {BOARDS:,} boards" if many else ", one board"
    return _against(title, f"Jumanji {name}, compiled loop", jumanji(name, BOARDS if many else None), mine)


def minigrid_rooms() -> Contest:
    """A walk through a grid that is wholly seen."""
    from minigrid.wrappers import FullyObsWrapper

    theirs = sampling(FullyObsWrapper(gym.make("MiniGrid-FourRooms-v0")))
    ours = stepping(gym.make("HRMMaze-v0", size=19, action_mode="move"))
    return _against("a walk in a 19x19 grid, one board", "Minigrid FourRooms, fully observed", theirs, ours)


def arcle_tasks() -> Contest:
    """ARC, one board."""
    from arcle.loaders import ARCLoader

    made = gym.make("ARCLE/O2ARCv2Env-v0", data_loader=ARCLoader(), max_grid_size=(30, 30), colors=10, max_trial=3)
    ours = stepping(gym.make("HRMARC-v0", action_mode="cell"))
    return _against("ARC-AGI-1, one board", "ARCLE O2ARCv2Env-v0", sampling(made), ours)


PEERS: dict[str, tuple[Callable[[], Contest], ...]] = {
    "jumanji": tuple(
        partial(against_jumanji, *what, many)
        for what in (("Sudoku-v0", "HRMSudoku-v0", "cell", "Sudoku"), ("Maze-v0", "HRMMaze-v0", "move", "maze 10x10"))
        for many in (False, True)
    ),
    "minigrid": (minigrid_rooms,),
    "arcle": (arcle_tasks,),
}
"""Contests by the package that has to be installed for them."""


def jumanji(name: str, boards: int | None) -> Turn:
    """A turn of a Jumanji environment in a compiled loop, one board or many, along actions drawn beforehand."""
    import jax
    import jumanji as package
    from jumanji.wrappers import AutoResetWrapper, VmapAutoResetWrapper

    env = package.make(name)
    world = AutoResetWrapper(env) if boards is None else VmapAutoResetWrapper(env)
    key = jax.random.PRNGKey(0)
    first = jax.jit(world.reset)(key if boards is None else jax.random.split(key, boards))
    many = boards is not None

    def draw(carry: Any, key: Any) -> Any:
        state, timestep = carry
        pick = legal_cell if name.startswith("Sudoku") else legal_move
        keys = jax.random.split(key, boards) if many else key
        action = (jax.vmap(pick) if many else pick)(keys, timestep.observation.action_mask)
        return world.step(state, action), action

    steps = BATCH_STEPS if many else STEPS
    actions = jax.jit(lambda carry, keys: jax.lax.scan(draw, carry, keys)[1])(first, jax.random.split(key, steps))
    replay = jax.jit(
        lambda carry, actions: jax.lax.scan(lambda c, a: (world.step(c[0], a), c[1].reward), carry, actions)
    )

    def turn(seconds: float) -> float:
        count, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            jax.block_until_ready(replay(first, actions))
            count += steps * (boards or 1)
        return count / (time.perf_counter() - begin)

    return turn


def legal_cell(key: Any, mask: Any) -> Any:
    """A random legal (row, column, digit) of Jumanji's Sudoku; any, where none is legal."""
    import jax
    import jax.numpy as jnp

    flat = jax.random.categorical(key, jnp.where(mask.reshape(-1), 0.0, -1e9))
    return jnp.stack(jnp.unravel_index(flat, mask.shape)).astype(jnp.int32)


def legal_move(key: Any, mask: Any) -> Any:
    """A random legal move of Jumanji's maze."""
    import jax
    import jax.numpy as jnp

    return jax.random.categorical(key, jnp.where(mask, 0.0, -1e9)).astype(jnp.int32)


def sampling(env: gym.Env[Any, Any]) -> Turn:
    """A turn of random actions, drawn beforehand, for environments that do not say which are legal."""
    env.action_space.seed(0)
    return replaying(partial(env.reset, seed=0), acting(env), [env.action_space.sample() for _ in range(500)])


def _against(title: str, peer: str, theirs: Turn, ours: Turn) -> Contest:
    return Contest(f"{title}: steps of boards a second", {peer: theirs, "hrm_gym": ours}, peer)
