"""Cut the golden parity kit (numbers of the official HRM and TRM code) down to what the tests read.

    python tests/agents/hrm/golden/trim.py FOLDER_OF_THE_KIT

Tensors of more than 4,096 elements that are only compared, not loaded, keep every 13th element; their key gets "@13".
"""

import json
import sys
from pathlib import Path

import numpy as np

STRIDE, WHOLE = 13, 4096
LOADED = ("state/", "batch/")
COMPARED = ("trace/", "eval_bf16/", "train/", "traj_A/", "traj_B/", *(f"eval/seg{k}/" for k in (1, 2, 3, 4)))
HERE = Path(__file__).parent


def trimmed(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays worth keeping, thinned out."""
    kept = {}
    for name, array in arrays.items():
        if name.startswith(COMPARED) and array.size > WHOLE:
            kept[f"{name}@{STRIDE}"] = array.ravel()[::STRIDE]
        elif name.startswith((*LOADED, *COMPARED)):
            kept[name] = array
    return kept


def main(kit: Path) -> None:
    """Write hrm.npz, trm_att.npz, their JSON, and components.npz beside this file."""
    for name in ("hrm", "trm_att"):
        with np.load(kit / f"{name}.npz") as arrays:
            np.savez_compressed(HERE / f"{name}.npz", **trimmed(dict(arrays)))
        settings = json.loads((kit / f"{name}.json").read_text())
        keep = {key: settings[key] for key in ("arch", "optim", "trajectories")}
        (HERE / f"{name}.json").write_text(json.dumps(keep, indent=1) + "\n")
    with np.load(kit / "components.npz") as arrays:
        np.savez_compressed(HERE / "components.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
