# Sourced by slurm.sh: a Slurm of one node whose files are all in one folder, beside any other on this machine.

set_up() { # folder of the state, folder of the logs; adds to `daemons`, and leaves SLURM_CONF set
    local state=$1 logs=$2 host
    host=$(hostname -s)
    mungekey --create --keyfile="$state/munge.key"
    munged --foreground --key-file="$state/munge.key" --socket="$state/munge.socket" --pid-file="$state/munged.pid" \
        --seed-file="$state/munge.seed" 2>"$logs/munged.log" &
    daemons+=($!)
    export SLURM_CONF=$state/slurm.conf
    # cred_expire: also how long a requeued job waits, by default two minutes.
    cat >"$SLURM_CONF" <<CONF
ClusterName=one
SlurmctldHost=$host
SlurmUser=root
SlurmctldPort=26817
SlurmdPort=26818
AuthType=auth/munge
AuthInfo=socket=$state/munge.socket,cred_expire=5
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/d
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$logs/slurmctld.log
SlurmdLogFile=$logs/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
KillWait=60
SchedulerParameters=batch_sched_delay=0,sched_interval=5
NodeName=$host CPUs=2 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=60 State=UP
CONF
    mkdir "$state/ctld" "$state/d"
    while [ ! -S "$state/munge.socket" ]; do sleep 0.1; done
    slurmctld -D >/dev/null 2>&1 &
    daemons+=($!)
    slurmd -D >/dev/null 2>&1 &
    daemons+=($!)
    local tries=0
    until sinfo --noheader --format=%t 2>/dev/null | grep -qx idle; do
        tries=$((tries + 1))
        [ "$tries" -lt 60 ] || { tail "$logs"/slurm*.log >&2; return 1; }
        sleep 0.5
    done
    sinfo --version
    sinfo
}

end_jobs() { # at once: slurmd waits for what is left of a job
    local tries
    scancel --full --signal=KILL --user=root 2>/dev/null || true
    scancel --user=root 2>/dev/null || true
    for tries in {1..60}; do
        [ -n "$(squeue --noheader 2>/dev/null)" ] || return 0
        sleep 0.5
    done
}
