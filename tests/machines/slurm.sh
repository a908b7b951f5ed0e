#!/bin/bash
# A real Slurm of one node, set up by hand and taken down again: a sweep of two jobs by submitit, a job of two tasks
# by sbatch, and one that is preempted twice and goes on in the same place.
#
#   tests/machines/slurm.sh [FOLDER]      FOLDER gets the runs and Slurm's logs; without one they are thrown away
#
# Needs root and Debian's packages slurm-wlm and munge; no daemon of theirs need run. Exit status 77: not possible here.
# PYTHON chooses the interpreter, which needs the extra `sweep`.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
export PYTHON=${PYTHON:-$root/.venv/bin/python}
export PYTHONPATH=$root OMP_NUM_THREADS=1
daemons=()

refuse() {
    echo "not run: $1" >&2
    exit 77
}

[ "$(id -u)" = 0 ] || refuse "Slurm's daemons start jobs as their users, for which this must be root"
for command in munged slurmctld slurmd srun; do
    command -v "$command" >/dev/null || refuse "there is no $command: apt-get install slurm-wlm munge"
done

folder=${1:-$(mktemp -d)}
[ $# -gt 0 ] || thrown_away=$folder
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
state=$(mktemp -d)
chmod 755 "$state" # munged wants its socket where all may go, and nobody else may write

take_down() {
    local status=$?
    [ "${#daemons[@]}" -lt 3 ] || end_jobs
    for process in "${daemons[@]}"; do kill "$process" 2>/dev/null || true; done
    wait
    rm -rf "$state" "${thrown_away:-}"
    exit "$status"
}
trap take_down EXIT
trap 'exit 130' INT TERM

source "$here/daemons.sh"
set_up "$state" "$folder"
cd "$folder"

small=(backbone=mobilenetv3_small head=lraspp dataset.size=48 dataset.train=24 dataset.val=6 dataset.test=6
    "data.size=[48,48]" data.batch_size=4 data.workers=0 precision=32-true logger=none callbacks.grid.images=0)

echo "== two jobs of a sweep, by submitit"
sweep=("$PYTHON" "$root/train.py" -m "${small[@]}" name=sweep seed=1,2 trainer.max_epochs=1
    hydra/launcher=submitit_slurm hydra.launcher.partition=all hydra.launcher.timeout_min=10)
follow_up() { # job's number, then its log
    while [ "$(squeue --noheader --jobs="$1" 2>/dev/null | wc -l)" != 0 ]; do sleep 1; done
    cat "$2"
}
epochs() { # waits until so many are done in a folder's run, at most five minutes
    local tries
    for tries in {1..3000}; do
        [ "$(cat outputs/$1/metrics.csv 2>/dev/null | wc -l)" -le "$2" ] || return 0
        sleep 0.1
    done
    return 1
}
submit() { # without what comes of a Slurm that keeps no accounts
    "${sweep[@]}" "$@" 2>&1 | grep -v -e "sacct error" -e "accounting storage is disabled"
}
submit
echo "== the same command again, with a third job that cannot be"
submit seed=1,2,none || echo "exit status $?"
echo "== jobs of two tasks each"
submit name=tasks trainer=ddp hydra.launcher.tasks_per_node=2

echo "== one job of two tasks, by sbatch"
options=("$root/train.py" "${small[@]}" seed=1 trainer=ddp trainer.max_epochs=12)
job=$(sbatch --parsable "$here/two_tasks.sbatch" "${options[@]}" hydra.run.dir=left_alone)
follow_up "$job" "slurm-$job.out"

echo "== the same, preempted twice"
job=$(sbatch --parsable "$here/two_tasks.sbatch" "${options[@]}" name=preempted)
epochs "preempted/*" 2
scontrol requeue "$job" # what a preemption by another job does: SIGTERM, and later SIGKILL
epochs "preempted/*" 6
scancel --signal=USR1 "$job" # what --signal=USR1@SECONDS does before the time is up; the script has itself requeued
follow_up "$job" "slurm-$job.out"
"$PYTHON" "$here/same.py" left_alone outputs/preempted/*

echo "== a sweep of which one job is preempted"
submit name=cut trainer.max_epochs=6 &
epochs "sweeps/cut/seed-1" 2
scontrol requeue "$(squeue --noheader --array --format=%i --sort=i | head -n 1)"
wait $!
