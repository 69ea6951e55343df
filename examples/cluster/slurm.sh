#!/bin/sh
# 32 parts on Slurm, a GPU each, and the end of the run once all of them are done:
#   parts=$(sbatch --parsable --array=1-32 examples/cluster/slurm.sh)
#   sbatch --dependency=afterok:"$parts" --wrap "slidescreen finish /shared/results"
# A part that was killed goes on when it is given again: sbatch --array=7 examples/cluster/slurm.sh
#SBATCH --job-name=slidescreen
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=12:00:00
#SBATCH --requeue
set -eu
exec slidescreen run /shared/cells --out /shared/results \
  --part "${SLURM_ARRAY_TASK_ID}/32" --threads "${SLURM_CPUS_PER_TASK}"
