#!/usr/bin/env bash
# How long the embedded comparison takes, before and after a change: at a commit, and here.
#     benchmarks/mini_comparison_time.sh COMMIT [arguments of compare, such as --set training.steps=20]
# Each is a whole run of its own, with an empty cache; the report is thrown away.
set -euo pipefail
export LC_ALL=C  # a locale may write seconds with a comma
cd "$(dirname "$0")/.."
python=${PYTHON:-$PWD/.venv/bin/python}
commit=$1
shift
place=$(mktemp -d)
trap 'git worktree remove --force "$place/before"; rm -rf "$place"' EXIT
git worktree add --quiet --detach "$place/before" "$commit"
measure() {
    local began=$EPOCHREALTIME
    (cd "$place" && RASENGAN_CACHE=$place/cache-$1 PYTHONPATH=$2/src \
        "$python" -m rasengan_xl compare --out "$place/runs-$1" "${@:3}" >"$place/$1.log" 2>&1) ||
        { tail -5 "$place/$1.log"; exit 1; }
    echo "$1: $("$python" -c "print(f'{$EPOCHREALTIME - $began:.0f}')") s"
}
echo "before is $(git log -1 --format='%h %s' "$commit")"
measure before "$place/before" "$@"
measure after "$PWD" "$@"
