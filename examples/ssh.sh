#!/bin/bash
# One training on several machines that ssh reaches, eight GPUs each:
#
#     examples/ssh.sh "gpu1 gpu2" sudoku-extreme-1k --out /shared/runs/extreme
#
# All machines must have this folder and that of the run under the same name, and reach the first one's port 29500.
# Given again it continues, on any number of machines that shares the batch evenly.
set -euo pipefail

read -ra machines <<< "$1"
shift
program=("${PYTHON:-python}" -m torch.distributed.run
    --nnodes "${#machines[@]}" --nproc-per-node "${PROCESSES:-8}"
    --master-addr "${machines[0]}" --master-port "${PORT:-29500}")

running=()
trap 'kill "${running[@]}" 2> /dev/null || true' EXIT
for rank in "${!machines[@]}"; do
    command=("${program[@]}" --node-rank "$rank" -m hrm_gym.scripts.main train "$@")
    # -tt: the training ends with its ssh, so that none is left behind where another one failed
    ssh -tt "${machines[$rank]}" "cd $(printf '%q' "$PWD") && $(printf '%q ' "${command[@]}")" < /dev/null &
    running+=($!)
done
for process in "${running[@]}"; do
    wait "$process"
done
