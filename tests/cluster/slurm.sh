#!/usr/bin/env bash
# A SLURM cluster of two nodes on one Debian machine, as root, without systemd or cgroups.
#
#   slurm.sh install            Debian's slurm-wlm and munge, if they are not there
#   slurm.sh start FOLDER       munged, slurmctld and the nodes n1 and n2, one CPU each
#   slurm.sh kill-job FOLDER NODE      what runs on it, at once, as the kernel does to save memory
#   slurm.sh kill-daemon FOLDER NODE   its slurmd alone: SLURM loses sight of it, its jobs go on
#   slurm.sh kill-node FOLDER NODE     its slurmd and everything it runs, as a power cut does
#   slurm.sh start-node FOLDER NODE
#   slurm.sh stop FOLDER        end all of it
#
# Everything lives in FOLDER, nothing in /etc: clients find the cluster by
# SLURM_CONF=FOLDER/slurm.conf.
set -euo pipefail

install() {
  command -v slurmctld >/dev/null && command -v munged >/dev/null && return
  export DEBIAN_FRONTEND=noninteractive
  apt-get install --yes --no-install-recommends slurm-wlm munge ||
    { apt-get update && apt-get install --yes --no-install-recommends slurm-wlm munge; }
}

configure() {
  mkdir -p "$1"/{munge,state,spool/n1,spool/n2}
  head -c 1024 /dev/urandom >"$1/munge/key"
  chmod 700 "$1/munge"
  chmod 400 "$1/munge/key"
  # Ports of this cluster's own, so that another one on the machine is left alone.
  local port=$((20000 + $$ % 20000))
  cat >"$1/slurm.conf" <<CONF
ClusterName=two-nodes
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmctldPort=$port
AuthType=auth/munge
# A job of a lost node waits until its old credential has expired, usually for two minutes.
AuthInfo=socket=$1/munge/socket,cred_expire=10
StateSaveLocation=$1/state
SlurmdSpoolDir=$1/spool/%n
SlurmctldPidFile=$1/slurmctld.pid
SlurmdPidFile=$1/slurmd.%n.pid
SlurmctldLogFile=$1/slurmctld.log
SlurmdLogFile=$1/slurmd.%n.log
# No systemd: processes are told apart by their group.
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
# The nodes' CPUs are as many as stand here, whatever the machine has.
SlurmdParameters=config_overrides
SlurmdTimeout=10
ReturnToService=2
KillWait=2
NodeName=n1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=1 RealMemory=1000
NodeName=n2 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=1 RealMemory=1000
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONF
}

start() {
  configure "$1"
  export SLURM_CONF=$1/slurm.conf
  munged --force --socket="$1/munge/socket" --key-file="$1/munge/key" \
    --pid-file="$1/munge/pid" --log-file="$1/munge/log" --seed-file="$1/munge/seed"
  slurmctld
  slurmd -N n1
  slurmd -N n2
  for _ in $(seq 60); do
    [ "$(sinfo --noheader --Node --format=%T 2>/dev/null | grep --count idle)" = 2 ] && return
    sleep 0.5
  done
  echo "the nodes do not become idle:" >&2
  sinfo --Node --long >&2
  tail -n 20 "$1"/*.log >&2
  return 1
}

kill_daemon() { kill -KILL "$(cat "$1/slurmd.$2.pid")"; }

# The daemon of a node and the stewards of its jobs all write its log.
daemons_of() {
  find /proc/[0-9]*/fd -lname "$1/slurmd.$2.log" 2>/dev/null | cut -d/ -f3 | sort --unique
}

# What runs on a node is told by the environment that SLURM gives it.
tasks_of() {
  grep --files-with-matches --text --null-data --line-regexp "SLURMD_NODENAME=$2" \
    /proc/[0-9]*/environ 2>/dev/null |
    xargs --no-run-if-empty grep --files-with-matches --text --null-data --line-regexp \
      "SLURM_CONF=$1/slurm.conf" 2>/dev/null | cut -d/ -f3
}

kill_job() {
  local pid
  for pid in $(tasks_of "$1" "$2"); do kill -KILL "$pid" 2>/dev/null || true; done
}

kill_node() {
  local pid
  # The stewards first: one that sees its task die reports a failed job, not a lost node.
  for pid in $(daemons_of "$1" "$2") $(tasks_of "$1" "$2"); do
    kill -KILL "$pid" 2>/dev/null || true
  done
}

stop() {
  local pid
  kill_node "$1" n1
  kill_node "$1" n2
  for pid in "$1/slurmctld.pid" "$1/munge/pid"; do
    if [ -f "$pid" ]; then kill "$(cat "$pid")" 2>/dev/null || true; fi
  done
}

case $1 in
  install) install ;;
  start) mkdir -p "$2" && start "$(realpath "$2")" ;;
  kill-job) kill_job "$(realpath "$2")" "$3" ;;
  kill-daemon) kill_daemon "$(realpath "$2")" "$3" ;;
  kill-node) kill_node "$(realpath "$2")" "$3" ;;
  start-node) SLURM_CONF=$2/slurm.conf slurmd -N "$3" ;;
  stop) stop "$(realpath "$2")" ;;
  *) sed -n '2,/^set/p' "$0" | sed '$d' >&2; exit 2 ;;
esac
