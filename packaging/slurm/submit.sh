#!/usr/bin/env bash
# Submit the array, and after it one short job that writes the table of all studies.
#
#   packaging/slurm/submit.sh 8 STUDIES OUT [more options of lesionlens batch]
#   SBATCH_GRES=gpu:1 packaging/slurm/submit.sh 8 STUDIES OUT --device cuda
set -euo pipefail
usage='how many tasks, the studies, the folder for results'
tasks=${1:?$usage} studies=${2:?$usage} out=${3:?$usage}
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
job=$(sbatch --parsable --array="1-$tasks" "$here/array.sbatch" "$@")
printf -v rest ' %q' "${@:3}"
printf -v table 'lesionlens batch %q --out %q --resume' "$studies" "$out"
sbatch --parsable --dependency="afterany:${job%%;*}" --mem=8G --job-name=lesionlens-table --wrap="$table${3:+$rest}"
