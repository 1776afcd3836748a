#!/usr/bin/env bash
# Submit the array, and after it one short job that writes the table of all studies.
#
#   packaging/slurm/submit.sh 8 STUDIES OUT [more options of lesionlens batch]
#   SBATCH_GRES=gpu:1 packaging/slurm/submit.sh 8 STUDIES OUT --device cuda
set -euo pipefail
tasks=${1:?how many tasks, the studies, the folder for results}
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
job=$(sbatch --parsable --array="1-$tasks" "$here/array.sbatch" "$@")
printf -v rest ' %q' "${@:3}"
printf -v table 'lesionlens batch %q --out %q --resume' "$1" "$2"
sbatch --parsable --dependency="afterany:${job%%;*}" --mem=8G --job-name=lesionlens-table --wrap="$table${3:+$rest}"
