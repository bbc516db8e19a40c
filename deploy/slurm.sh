#!/bin/bash
# A sweep on the nodes of a Slurm allocation: Ray is started on them, for this job alone, and ended with it.
#
#   sbatch deploy/slurm.sh sweep.yaml /shared/sphere/main
#
# Run it from an environment in which `sphere` and `ray` are found on every node (a shared virtual environment, say).
# Five minutes before the time limit the replicas publish their checkpoints and the job is put back into the queue,
# where it goes on from them. Lines to adapt are marked EDIT.
#SBATCH --job-name=sphere
#SBATCH --nodes=2                    # EDIT
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16           # EDIT
#SBATCH --gpus-per-node=4            # EDIT
#SBATCH --time=24:00:00              # EDIT
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@300          # more than resources.grace_seconds of the sweep
set -euo pipefail

sweep=${1:?usage: sbatch deploy/slurm.sh SWEEP ROOT}
root=${2:?usage: sbatch deploy/slurm.sh SWEEP ROOT}

# One token for this job; it lives in the environment of its processes only.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 HF_HUB_DISABLE_TELEMETRY=1
ulimit -n "$(ulimit -Hn)"

read -r head < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{ print $1 }')
port=$((20000 + SLURM_JOB_ID % 20000))
# Ray opens the folder that it is given to everyone, so that one lies inside a folder that is made here, on every node,
# for this user alone. Its name cannot be foreseen, and a folder that is there already ends the job. Short: the paths of
# Ray's sockets must stay below 107 characters.
scratch=/tmp/s$SLURM_JOB_ID-$(python -c 'import secrets; print(secrets.token_hex(4))')
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" mkdir -m 0700 "$scratch"

stop() {
    trap - EXIT
    # Ends what was started here and nothing else; `ray stop` would end every Ray on the nodes.
    kill "${steps[@]}" 2>/dev/null || true
    wait "${steps[@]}" 2>/dev/null || true
    srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" rm -rf "$scratch" || true
}
steps=()
trap stop EXIT

srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    ray start --head --block --node-ip-address="$address" --port="$port" --num-cpus="$SLURM_CPUS_PER_TASK" \
    --include-dashboard=false --object-store-memory=200000000 --temp-dir="$scratch/r" --disable-usage-stats &
steps+=($!)
for _ in $(seq 120); do
    if (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; then break; fi
    sleep 1
done

others=$((SLURM_JOB_NUM_NODES - 1))
if [ "$others" -gt 0 ]; then
    srun --nodes="$others" --ntasks="$others" --exclude="$head" --overlap --cpus-per-task="$SLURM_CPUS_PER_TASK" \
        ray start --block --address="$address:$port" --num-cpus="$SLURM_CPUS_PER_TASK" \
        --object-store-memory=200000000 &
    steps+=($!)
fi

# The sweep does not wait for all nodes: replicas start on those that have come.
sphere run "$sweep" --root "$root" --address "$address:$port" &
driver=$!
ending=no
trap 'ending=yes; kill -TERM "$driver" 2>/dev/null || true' TERM
code=0
wait "$driver" || code=$?
if [ "$ending" = yes ]; then
    # The first wait was cut short by the signal; this one is for the checkpoints.
    code=0
    wait "$driver" || code=$?
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
