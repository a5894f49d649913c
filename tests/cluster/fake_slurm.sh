#!/bin/sh
# What hw2 sees of SLURM, without a cluster: each program of it is a link to this file.
#
# In the folder $FAKE_SLURM a test finds the scripts of the jobs (1.sh, 2.sh, ...), the queue, which
# it changes as a cluster would, and what was cancelled. A file "silent" there makes squeue fail.
cd "$FAKE_SLURM" || exit 1
case ${0##*/} in
  sbatch)
    job=$(($(ls | grep -c '^[0-9]*\.sh$') + 1))
    cp "$1" "$job.sh"
    last=$(sed -n 's/^#SBATCH --array=0-\([0-9]*\).*/\1/p' "$1")
    if [ -n "$last" ]; then
      for task in $(seq 0 "$last"); do echo "${job}_$task|PENDING|Priority"; done >>queue
    else
      echo "$job|PENDING|Priority" >>queue
    fi
    echo "Submitted batch job $job"
    ;;
  squeue) [ ! -e silent ] && cat queue ;;
  scancel) echo "$*" >>cancelled ;;
  scontrol) echo "MaxArraySize            = $(cat max_array_size)" ;;
  srun)
    cd "$OLDPWD" || exit 1
    while [ "${1#--}" != "$1" ]; do
      [ "$1" = --output ] && shift
      shift
    done
    exec "$@"
    ;;
esac
