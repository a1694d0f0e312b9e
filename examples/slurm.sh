#!/bin/bash
# One training on several machines of a Slurm cluster, eight GPUs each:
#
#     sbatch --nodes 2 examples/slurm.sh sudoku-extreme-1k --out /shared/runs/extreme
#
# All machines must see the folder of the run. Given again, or queued again, it continues, on any number of GPUs that
# shares the batch evenly. Many trainings on a GPU each: hrm-gym train RECIPE --seeds 5 --launcher slurm
#SBATCH --job-name=hrm-gym
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
set -euo pipefail

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# --max-restarts: a process that is lost takes all others with it, and all start again from the newest checkpoint
srun "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "${PROCESSES:-8}" --max-restarts 3 \
    --rdzv-backend c10d --rdzv-endpoint "$first:${PORT:-29500}" --rdzv-id "$SLURM_JOB_ID" \
    -m hrm_gym.scripts.main train "$@"
