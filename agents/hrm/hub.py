"""HRM weights wherever they lie: a folder of ours, an official run's folder, or either of them on the Hugging Face hub.

>>> from hrm_gym.agents.hrm import HRMAgent
>>> agent = HRMAgent.from_pretrained("sapientinc/HRM-checkpoint-sudoku-extreme")  # doctest: +SKIP
>>> agent = HRMAgent.from_pretrained("checkpoints/my-official-run")  # doctest: +SKIP
>>> agent.save_pretrained("weights/sudoku")  # doctest: +SKIP
>>> agent.push_to_hub("me/sudoku-hrm")  # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.official.config import read_settings
from hrm_gym.agents.hrm.official.folder import find_identifiers, find_run, is_official, official_family
from hrm_gym.agents.hrm.official.weights import load_official
from hrm_gym.agents.hrm.run_folder import load_model, write_model
from hrm_gym.agents.hrm.task_rows import IDENTIFIERS, NamedRows, TaskRows
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.files.hub import check_timeouts, is_hub_name
from hrm_gym.files import finished_weights, written_atomically
from hrm_gym.registry import make_family

check_timeouts()  # of huggingface_hub, which would not name them

from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download  # noqa: E402
from huggingface_hub.utils import logging as hub_logging  # noqa: E402

CARDS = ("CARD.md", "README.md")
MOST_CARD = 2**20
"""Bytes of a card that are read."""

NO_WEIGHTS = ("*.py", "*.ipynb", "*_all_preds*", "*.npy", "*.csv", "*.png", "*.gif", "*.mp4")
"""Files of a repository on the hub that are not fetched."""

FORMS = "a folder written by save_pretrained, or a checkpoint file next to its all_config.yaml or config.json"

A = TypeVar("A", bound="HubAgent")


class Pretrained(NamedTuple):
    """A network and where it comes from.

    Attributes:
        model: in evaluation mode.
        about: the JSON next to our weights; `family` is always there.
        card: the text of the model card without its metadata, if there is one.
        task_rows: which row of the puzzle embedding belongs to a task.
    """

    model: HRM
    about: dict[str, Any]
    card: str | None
    task_rows: TaskRows | NamedRows = TaskRows()


def load_pretrained(weights: Path | str, **download: Any) -> Pretrained:
    """The weights that a name or a path means.

    Args:
        weights: a folder or a checkpoint file, of ours or of the official code; or `owner/name` or
            `owner/name@revision` on the Hugging Face hub.
        **download: passed on to `huggingface_hub.snapshot_download`.

    Raises:
        OSError: there is nothing of that name here, and nothing came from the hub.
        ValueError: files are damaged, ambiguous, or do not fit each other.
    """
    path = locate(weights, **download)
    folder = path if path.is_dir() else path.parent
    if is_official(folder):
        checkpoint, config = find_run(path)
        folder = config.parent
    if not is_official(folder):
        model, about = load_model(folder)
        names = find_identifiers(folder, {}) if about.get("official") else None
    else:
        model, settings = load_official(checkpoint, config).requires_grad_(False), read_settings(config)
        family = official_family(settings, model.config)
        about = {"kind": "hrm", "family": family, "source": str(weights), "official": True}
        names = find_identifiers(folder, settings)
    if names and about.get("family") == "arc":
        return Pretrained(model, about, _read_card(folder), NamedRows.read(names, model.config.puzzle_count))
    return Pretrained(model, about, _read_card(folder), TaskRows.of(about))


def locate(weights: Path | str, **download: Any) -> Path:
    """The file or folder that `weights` means, fetched from the hub if it is not here.

    Raises:
        OSError: neither is possible; one line that says what was tried.
    """
    path = Path(weights).expanduser()
    if path.exists():
        return finished_weights(path)
    if not is_hub_name(str(weights)):
        raise FileNotFoundError(f"no weights at {weights}: expected {FORMS}, or owner/name on the Hugging Face hub")
    name, _, revision = str(weights).partition("@")
    level = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()
    try:
        options: dict[str, Any] = {"revision": revision or None, "ignore_patterns": list(NO_WEIGHTS), **download}
        return Path(snapshot_download(name, **options))
    except Exception as error:  # the hub's own, its HTTP library's, the operating system's: all mean that nothing came
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise OSError(
            f"{weights}: found no such file or folder here, and no weights of that name could be fetched from the "
            f"Hugging Face hub ({reason}); give a local one instead: {FORMS}"
        ) from None
    finally:
        hub_logging.set_verbosity(level)


class HubAgent(ModelHubMixin, library_name="hrm-gym", tags=["hrm", "gymnasium"]):
    """An agent of one HRM that is loaded by name, saved, and pushed to the hub; see `HRMAgent`.

    Attributes:
        model: the network.
        family: the rules of its puzzles.
        task_rows: which row of the puzzle embedding belongs to a task.
        about: what was known of the weights when they were loaded.
        card: the text of their model card.
    """

    model: HRM
    family: PuzzleFamily
    task_rows: TaskRows | NamedRows = TaskRows()
    about: dict[str, Any] | None = None
    card: str | None = None

    @classmethod
    def from_pretrained(
        cls: type[A],
        pretrained_model_name_or_path: Path | str,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: Path | str | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        **kwargs: Any,
    ) -> A:
        """The agent of some weights; the family of puzzles follows from them.

        Args:
            pretrained_model_name_or_path: as for `load_pretrained`.
            force_download: fetch again what is in the hub's cache.
            token: of an account on the hub.
            cache_dir: where the hub's cache is.
            local_files_only: take what is in the cache, or nothing.
            revision: a branch, tag or commit on the hub.
            **kwargs: as the constructor, e.g. `action_mode`, `device`.

        Raises:
            OSError: there is nothing of that name here, and nothing came from the hub.
            ValueError: files are damaged, ambiguous, or do not fit each other.
        """
        download = {"force_download": force_download, "token": token, "cache_dir": cache_dir}
        download |= {"local_files_only": local_files_only, **({"revision": revision} if revision else {})}
        found = load_pretrained(pretrained_model_name_or_path, **download)
        family = make_family(str(found.about.get("family")), found.model.config.grid)
        return cls.of(found, family, **kwargs)

    @classmethod
    def of(cls: type[A], found: Pretrained, family: PuzzleFamily, **kwargs: Any) -> A:
        """The agent of loaded weights; it remembers what is known of them.

        Raises:
            ValueError: their vocabulary is not that of the family.
        """
        model = found.model
        if model.config.vocab_size != family.vocab_size:
            raise ValueError(
                f"weights with a vocabulary of {model.config.vocab_size} do not fit {family.name}, "
                f"which has {family.vocab_size} tokens"
            )
        named = ("halting", "restart", "check")
        suits: dict[str, Any] = {name: found.about[name] for name in named if name in found.about}
        settings = {"max_segments": model.config.max_segments, **suits, **kwargs}
        agent = cls(model, family, **settings)
        agent.about, agent.card = {**found.about, "model": model.config.to_json()}, found.card
        agent.task_rows = found.task_rows
        return agent

    def _save_pretrained(self, save_directory: Path) -> None:
        """Our format: weights in float32, and the config of before the agent chose a precision for its device."""
        about = {"kind": "hrm", "family": self.family.name, "symbols": self.family.symbols, **(self.about or {})}
        saved = about.pop("model", {})
        config: HRMConfig = dataclasses.replace(self.model.config, dtype=saved.get("dtype", self.model.config.dtype))
        state = {name: tensor.cpu() for name, tensor in self.model.state_dict().items()}
        write_model(save_directory, state, config, about)
        if isinstance(self.task_rows, NamedRows):
            with written_atomically(save_directory / IDENTIFIERS) as draft:
                shutil.copyfile(self.task_rows.path, draft)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card that came with the weights, or a few lines where none came, under the hub's metadata."""
        grid = "x".join(map(str, self.model.config.grid))
        text = self.card or (
            f"# HRM for {self.family.name} {grid}\n\n{self.model.parameter_count():,} parameters. "
            f"`HRMAgent.from_pretrained(...)` of the package `hrm-gym` loads it.\n"
        )
        return ModelCard(f"---\n{self._hub_mixin_info.model_card_data.to_yaml()}\n---\n\n{text}")


def _read_card(folder: Path) -> str | None:
    """The card in a folder, without the metadata between lines of dashes that the hub puts in front."""
    home = folder.resolve()
    # a link to a private file would be published with the next push; the hub's cache links to its own blobs
    homes = {home, home.parents[1] / "blobs"} if home.parent.name == "snapshots" else {home}
    for path in (folder / name for name in CARDS):
        if path.is_file() and homes & {*path.resolve().parents}:
            with path.open(encoding="utf-8", errors="replace") as file:
                text = file.read(min(MOST_CARD, path.stat().st_size))
            return re.sub(r"\A---\n.*?\n---\n\s*", "", text, flags=re.DOTALL)
    return None
