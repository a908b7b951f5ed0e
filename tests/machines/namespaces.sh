#!/bin/bash
# Two machines as network namespaces of this one, with a cable between them, and torchrun over it: one process a
# machine. One run must come of it, and the scores of one process alone.
#
#   tests/machines/namespaces.sh [FOLDER]      FOLDER gets the runs; without one they are thrown away
#
# Needs root and iproute2. Exit status 77: this system does not allow it. PYTHON chooses the interpreter.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PYTHON=${PYTHON:-$root/.venv/bin/python}
id=sg$$
first=$id-0 second=$id-1
started=()

take_down() {
    local status=$?
    for process in "${started[@]}"; do kill -- "$process" 2>/dev/null || true; done
    wait
    ip netns delete "$first" 2>/dev/null || true # and with it the cable
    ip netns delete "$second" 2>/dev/null || true
    [ -z "${thrown_away:-}" ] || rm -rf "$thrown_away"
    exit "$status"
}

refuse() {
    echo "not run: $1" >&2
    exit 77
}

command -v ip >/dev/null || refuse "there is no ip command (Debian's iproute2)"
if ! reason=$(ip netns add "$first" 2>&1 && ip link add "${id}a" type veth peer name "${id}b" 2>&1); then
    ip netns delete "$first" 2>/dev/null || true
    refuse "network namespaces are not allowed here ($reason)"
fi
trap take_down EXIT
trap 'exit 130' INT TERM

ip netns add "$second"
ip link set "${id}a" netns "$first" name cable
ip link set "${id}b" netns "$second" name cable
for number in 0 1; do
    ip -n "$id-$number" address add "10.77.0.$((number + 1))/24" dev cable
    ip -n "$id-$number" link set cable up
    ip -n "$id-$number" link set lo up
done

folder=${1:-$(mktemp -d)}
[ $# -gt 0 ] || thrown_away=$folder
mkdir -p "$folder"
cd "$folder"
# gloo would look for its address by the host's name, which both machines have in common here.
export PYTHONPATH=$root OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME=cable
export TORCH_CPP_LOG_LEVEL=ERROR # these machines have no names, about which torch would complain

# Steps that depend on the batch alone: batch norm with running statistics, and no augmentation.
options=(seed=1 backbone=mobilenetv3_small head=lraspp optimizer=sgd augmentation=none "data.size=[48,48]"
    data.batch_size=4 data.workers=0 precision=32-true trainer.max_epochs=2 logger=none callbacks.grid.images=0)
train=("$root/tests/still_run.py" "${options[@]}")

"$PYTHON" "${train[@]}" hydra.run.dir=alone >alone.log 2>&1 || { cat alone.log; exit 1; }

on_machine() { # number, then what torchrun is told
    ip netns exec "$id-$1" "$PYTHON" -m torch.distributed.run --nnodes=2 --nproc-per-node=1 "${@:2}" \
        "${train[@]}" trainer=ddp 'hydra.run.dir="two/${now:%H%M%S%f}"' >"machine$1.log" 2>&1 &
    started+=($!)
}

run() { # how the two meet: what both are told, then what each
    echo "torchrun --nnodes=2 --nproc-per-node=1 $1"
    rm -rf two
    local both number
    read -ra both <<<"$1"
    for number in 0 1; do on_machine "$number" "${both[@]}" ${@:number + 2:1}; done
    for number in 0 1; do wait -n || { cat machine0.log machine1.log; exit 1; }; done
    started=()
    # torchrun's agents take leave of each other over a store that goes with the first: at times the other says so.
    if grep -v 'torch/distributed/elastic/' machine1.log; then
        echo "the second machine was not silent"
        exit 1
    fi
    "$PYTHON" "$root/tests/machines/same.py" alone two/*
}

run "--master-addr=10.77.0.1 --master-port=29500" --node-rank=0 --node-rank=1
# is_host: elsewhere a machine knows by its name that the endpoint is its own.
run "--rdzv-backend=c10d --rdzv-endpoint=10.77.0.1:29500 --rdzv-id=run" \
    "--local-addr=10.77.0.1 --rdzv-conf=is_host=1" "--local-addr=10.77.0.2 --rdzv-conf=is_host=0"
echo "over the cable, from the second machine: $(ip netns exec "$second" cat /sys/class/net/cable/statistics/tx_bytes) bytes"
