"""Every reader of files from elsewhere, and bytes that it is given: read, or refused as the documentation says.

`tests/fuzz/corpus` holds inputs that together reach what fuzzing has reached; a test gives them to the readers again.
`python -m tests.fuzz.guided --minutes 10` looks for more.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.error import Error
from safetensors.torch import save

import hrm_gym
from hrm_gym import registry
from hrm_gym.agents import checkpoint
from hrm_gym.agents.halting.learning import DecisionNet, Learned
from hrm_gym.agents.hrm import run_folder
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.official.config import read_settings, translate_config
from hrm_gym.agents.hrm.official.folder import official_family
from hrm_gym.agents.hrm.official.weights import read_state
from hrm_gym.agents.sb3.policies import blank_policy, own_state, read_policy
from hrm_gym.data.build import Part
from hrm_gym.envs.arc.tasks import read_tasks
from hrm_gym.envs.files import open_puzzles
from hrm_gym.envs.halting.bank import BUNDLED, find_bank
from hrm_gym.envs.maze.rules import MAZE
from hrm_gym.envs.sudoku.rules import SudokuFamily
from hrm_gym.reading import read_curve, read_npz

CORPUS = Path(__file__).with_name("corpus")
LARGEST = 16_000
"""Bytes of an input that is kept."""

REFUSALS = (ValueError, OSError, Error)
"""By which a reader may refuse; commands make one line of them."""

MODEL = HRMConfig(
    vocab_size=6, grid=(2, 2), hidden_size=4, heads=1, h_layers=1, l_layers=1, positions="rope2d", dtype="float32"
)
ARCH = {
    "name": "hrm.hrm_act_v1@HierarchicalReasoningModel_ACTV1", "H_cycles": 1, "L_cycles": 1, "H_layers": 1,
    "L_layers": 1, "hidden_size": 8, "num_heads": 2, "expansion": 1, "puzzle_emb_ndim": 8, "pos_encodings": "rope",
    "halt_max_steps": 2, "halt_exploration_prob": 0.1, "vocab_size": 11, "seq_len": 81, "num_puzzle_identifiers": 1,
}  # fmt: skip

FACTS = {
    "pad_id": 0, "ignore_label_id": 0, "blank_identifier_id": 0, "vocab_size": 6, "seq_len": 9,
    "num_puzzle_identifiers": 1, "total_groups": 1, "mean_puzzle_examples": 1.0, "sets": ["all"],
}  # fmt: skip


@cache
def _good() -> tuple[bytes, bytes, bytes]:
    """A tiny network: its config.json, its tensors, and its tensors as `torch.save` writes them."""
    torch.manual_seed(0)
    state = {name: tensor.contiguous() for name, tensor in HRM(MODEL).state_dict().items()}
    config = {"format_version": 1, "kind": "hrm", "family": "maze", "model": MODEL.to_json(), "halting": "q"}
    held = io.BytesIO()
    torch.save({"model": state, "step": 3}, held)
    return json.dumps(config).encode(), save(state), held.getvalue()


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def read_config(folder: Path, content: bytes) -> None:
    """The JSON of a weights folder."""
    _write(folder / "config.json", content)
    _write(folder / "model.safetensors", _good()[1])
    run_folder.load_model(folder)


def read_weights(folder: Path, content: bytes) -> None:
    """The tensors of a weights folder."""
    _write(folder / "config.json", _good()[0])
    _write(folder / "model.safetensors", content)
    run_folder.load_model(folder)


def read_rl_config(folder: Path, content: bytes) -> None:
    """The JSON of an opponent's weights."""
    _write(folder / "config.json", content)
    _write(folder / "model.safetensors", (_ppo() / "model.safetensors").read_bytes())
    read_policy(folder)


def read_sums(folder: Path, content: bytes) -> None:
    """SHA256SUMS."""
    _write(folder / "a", b"a")
    _write(folder / "SHA256SUMS", content)
    checkpoint.verify(folder)


def read_official(folder: Path, content: bytes) -> None:
    """An official checkpoint."""
    read_state(_write(folder / "step_7", content))


def read_official_config(folder: Path, content: bytes) -> None:
    """An official all_config.yaml."""
    settings = read_settings(_write(folder / "all_config.yaml", content))
    official_family(settings, translate_config(settings))


def read_csv(folder: Path, content: bytes) -> None:
    """A CSV file of Sudokus or mazes."""
    path = _write(folder / "puzzles.csv", content)
    for family in (SudokuFamily((3, 3)), MAZE):
        try:
            _look(open_puzzles(path, family))
        except REFUSALS:
            continue


def _look(puzzles: Any) -> None:
    for row in (0, len(puzzles) - 1):
        assert puzzles[row].clues.dtype == np.uint8


def read_npy(folder: Path, content: bytes) -> None:
    """The inputs of a data set in the official layout."""
    _dataset(folder, {"all__inputs.npy": content})


def read_dataset_json(folder: Path, content: bytes) -> None:
    """The dataset.json of a data set in the official layout."""
    _dataset(folder, {"dataset.json": content})


def _dataset(folder: Path, changed: dict[str, bytes]) -> None:
    clues, solution = MAZE.read_row("S #  ## G", "So# o##oG")
    arrays = {
        "inputs": clues.reshape(1, -1).astype(np.uint8), "labels": solution.reshape(1, -1).astype(np.uint8),
        "puzzle_identifiers": np.zeros(1, np.int32), "puzzle_indices": np.arange(2, dtype=np.int32),
        "group_indices": np.arange(2, dtype=np.int32),
    }  # fmt: skip
    files = {f"all__{name}.npy": _npy(array) for name, array in arrays.items()}
    files["dataset.json"] = json.dumps(FACTS).encode()
    for name, content in {**files, **changed}.items():
        _write(folder / "train" / name, content)
    _look(open_puzzles(folder, MAZE))


def _npy(array: Any) -> bytes:
    held = io.BytesIO()
    np.save(held, array)
    return held.getvalue()


def _npz(**arrays: Any) -> bytes:
    held = io.BytesIO()
    np.savez_compressed(held, **arrays)
    return held.getvalue()


def read_bank(folder: Path, content: bytes) -> None:
    """A halting bank."""
    find_bank(_write(folder / "bank.npz", content))


def read_part(folder: Path, content: bytes) -> None:
    """A part of a data set that is being built."""
    Part(**read_npz(_write(folder / "part.npz", content), Part.SCHEMA)).keys()


def read_arc(folder: Path, content: bytes) -> None:
    """ARC tasks."""
    read_tasks(_write(folder / "tasks.json", content))


def read_learning_curve(folder: Path, content: bytes) -> None:
    """A learning curve."""
    read_curve(_write(folder / "curve.jsonl", content), ("update",))


def read_id(folder: Path, content: bytes) -> None:
    """An environment's id from a file, and constructor arguments."""
    text = content.decode("utf-8", errors="replace")
    env_id, _, arguments = text.partition(":")
    read = registry.read_arguments(arguments)
    registry.registered_env(env_id)
    repr(read)


@cache
def _world() -> Any:
    return gym.make("HRMSudokuMini-v0", disable_env_checker=True).unwrapped


def read_options(folder: Path, content: bytes) -> None:
    """Options of a reset, as JSON."""
    try:
        options = json.loads(content)
    except (ValueError, RecursionError):
        return
    world = _world()
    try:
        world.reset(seed=1, options=options)
    finally:
        world.reset(seed=1)


def read_plug_ins(folder: Path, content: bytes) -> None:
    """What an installed package says of its plug-ins."""
    _write(folder / "plug_in-1.0.dist-info" / "METADATA", b"Metadata-Version: 2.1\nName: plug-in\nVersion: 1.0\n")
    _write(folder / "plug_in-1.0.dist-info" / "entry_points.txt", content)
    sys.path.insert(0, str(folder))
    try:
        registry.load_plug_ins()
        registry.agent_names()
    finally:
        sys.path.remove(str(folder))


@cache
def _ppo() -> Path:
    return registry.bundled_weights() / "ppo-maze-10x10"


@cache
def _walker() -> tuple[bytes, bytes]:
    """A tiny policy of PPO: its config.json and its tensors."""
    about = json.loads((_ppo() / "config.json").read_bytes())
    small = {"grid": [2, 2], "channels": 2, "alternatives": 1, "iterations": 2, "hidden": 2}
    about = {**about, "model": {**about["model"], **small}, "recipe": {}}
    torch.manual_seed(0)
    state = own_state(blank_policy("ppo", about["model"]))
    return json.dumps(about).encode(), save({name: tensor.contiguous() for name, tensor in state.items()})


def _play(agent: str, folder: Path, config: bytes, tensors: bytes) -> None:
    """`--agent NAME=FOLDER` on one small maze, for some steps."""
    _write(folder / "config.json", config)
    _write(folder / "model.safetensors", tensors)
    env = _small_maze("answer" if agent == "hrm" else "move")
    player = registry.make_agent(agent, env, weights=folder)
    observation, _ = env.reset(options={"puzzle": "S \n G"})
    state = None
    for _ in range(3):
        action, state = player.predict(observation, state)
        player.thoughts()
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break


@cache
def _small_maze(mode: str) -> Any:
    return gym.make("HRMMaze-v0", size=2, source="generate", action_mode=mode, disable_env_checker=True)


def read_agent(folder: Path, content: bytes) -> None:
    """The JSON of an HRM that plays."""
    _play("hrm", folder, content, _good()[1])


def read_agent_weights(folder: Path, content: bytes) -> None:
    """The tensors of an HRM that plays."""
    _play("hrm", folder, _good()[0], content)


def read_rl_agent(folder: Path, content: bytes) -> None:
    """The JSON of an opponent that plays."""
    _play("ppo", folder, content, _walker()[1])


def read_rl_agent_weights(folder: Path, content: bytes) -> None:
    """The tensors of an opponent that plays."""
    _play("ppo", folder, _walker()[0], content)


@cache
def _halting() -> tuple[bytes, bytes]:
    torch.manual_seed(0)
    about = {"format_version": 1, "kind": "halting", "model": {"features": 3, "hidden": 2}, "recipe": {"agent": "ppo"}}
    return json.dumps(about).encode(), save(DecisionNet(3, 2).state_dict())


def read_halting_policy(folder: Path, content: bytes) -> None:
    """The JSON of a learned halting rule that decides."""
    _write(folder / "config.json", content)
    _write(folder / "model.safetensors", _halting()[1])
    Learned.load(folder).halts(np.zeros((2, 3), np.float32))


def seeds(name: str) -> Iterable[bytes]:
    """Good inputs of a reader, to begin from."""
    sudoku = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
    grid, pair = [[0, 1], [2, 3]], {"input": [[1]], "output": [[2, 3]]}
    clues, zeros = np.ones((2, 3, 3), np.uint8), np.zeros(2, np.int32)
    found: dict[str, Callable[[], list[bytes]]] = {
        "config": lambda: [_good()[0]],
        "weights": lambda: [_good()[1]],
        "rl config": lambda: [(_ppo() / "config.json").read_bytes()],
        "sums": lambda: [b"0" * 64 + b"  a\n", hashlib.sha256(b"a").hexdigest().encode() + b"  a\n"],
        "official": lambda: [_good()[2], _good()[1]],
        "official config": lambda: [json.dumps({"arch": ARCH, "data_path": "data/sudoku"}).encode()],
        "csv": lambda: [f"source,question,answer,rating\nx,{sudoku},,3\n".encode(), sudoku.encode(),
                        b"question,answer\nS #  ## G,So# o##oG\n"],
        "npy": lambda: [_npy(MAZE.parse("S #\n  #\n# G").reshape(1, -1).astype(np.uint8))],
        "dataset.json": lambda: [json.dumps(FACTS).encode()],
        "bank": lambda: [_npz(**{k: v if k == "about" else v[:2] for k, v in np.load(BUNDLED).items()})],
        "part": lambda: [_npz(clues=clues, solutions=clues, puzzle_ids=zeros, digests=np.ones((2, 16), np.uint8))],
        "arc": lambda: [json.dumps({"train": [pair], "test": [pair, {"input": grid}]}).encode(),
                        json.dumps({"00000000": {"train": [pair], "test": [pair]}}).encode()],
        "curve": lambda: [b'{"update": 1, "loss": 0.5}\n{"update": 2, "loss": 0.25}\n'],
        "id": lambda: [b"HRMMaze-v0:size=(2,3),source='a, b.csv'", b"helpers:HRMMaze-v0"],
        "options": lambda: [b'{"index": 3}', b'{"puzzle": "1...\\n..3.\\n.2..\\n...4"}', b'{"seed": 1}'],
        "agent": lambda: [_good()[0], json.dumps(
            {**json.loads(_good()[0]), "restart": 2, "check": True, "action_mode": "answer", "recipe": {}}).encode()],
        "agent weights": lambda: [_good()[1]],
        "rl agent": lambda: [_walker()[0]],
        "rl agent weights": lambda: [_walker()[1]],
        "halting policy": lambda: [_halting()[0]],
        "plug-ins": lambda: [b"[hrm_gym.families]\nmine = nowhere.at:all\n[hrm_gym.agents]\nme = nowhere:Me.make\n"],
    }  # fmt: skip
    return found[name]()


READERS: dict[str, Callable[[Path, bytes], None]] = {
    "config": read_config,
    "weights": read_weights,
    "rl config": read_rl_config,
    "sums": read_sums,
    "official": read_official,
    "official config": read_official_config,
    "csv": read_csv,
    "npy": read_npy,
    "dataset.json": read_dataset_json,
    "bank": read_bank,
    "part": read_part,
    "arc": read_arc,
    "curve": read_learning_curve,
    "id": read_id,
    "options": read_options,
    "plug-ins": read_plug_ins,
    "agent": read_agent,
    "agent weights": read_agent_weights,
    "rl agent": read_rl_agent,
    "rl agent weights": read_rl_agent_weights,
    "halting policy": read_halting_policy,
}


def finding(name: str, folder: Path, content: bytes) -> str | None:
    """Give `content` to a reader; returns what is wrong with what came of it, None if nothing is."""
    try:
        READERS[name](folder, content)
    except REFUSALS as error:
        line = " ".join(str(error).split())
        return None if line and len(line) < 2000 else f"a refusal of {len(line)} characters: {line[:100]}"
    except Exception as error:
        places = [frame for frame in traceback.extract_tb(error.__traceback__) if "hrm_gym" in frame.filename]
        ours = [frame for frame in places if "fuzz" not in frame.filename][-1:]
        where = "".join(f" at {Path(frame.filename).name}:{frame.lineno}" for frame in ours)
        return f"{type(error).__name__}{where}: {' '.join(str(error).split())[:200]}"
    return None


def corpus(name: str) -> list[bytes]:
    """The inputs that are kept for a reader."""
    file = CORPUS / f"{name.replace(' ', '-')}.txt"
    return [base64.b64decode(line) for line in file.read_text().splitlines()] if file.is_file() else []


def keep(name: str, folder: Path, inputs: Iterable[bytes]) -> int:
    """Keep those inputs that reach lines of ours which none before them does, small ones first; returns how many."""
    reached: set[tuple[str, int]] = set()
    kept = []
    for content in sorted({content for content in inputs if len(content) <= LARGEST}, key=lambda one: (len(one), one)):
        lines = _lines(lambda content=content: finding(name, folder, content))  # type: ignore[misc]
        if lines - reached:
            reached |= lines
            kept.append(content)
    CORPUS.mkdir(exist_ok=True)
    text = "".join(f"{base64.b64encode(content).decode()}\n" for content in kept)
    (CORPUS / f"{name.replace(' ', '-')}.txt").write_text(text)
    return len(kept)


def _lines(task: Callable[[], object]) -> set[tuple[str, int]]:
    """Lines of this package that a task runs."""
    found: set[tuple[str, int]] = set()
    root = str(Path(hrm_gym.__file__).resolve().parents[1])

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(root):
            return None
        if event == "line":
            found.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        task()
    finally:
        sys.settrace(before)
    return found
