#!/usr/bin/env bash
# Build the wheel, install it into an empty environment, and use it in an empty folder, as someone without a clone would.
#     bash benchmarks/wheel_check.sh BUILDER_PYTHON [PYTHON] [TORCH]
# BUILDER_PYTHON has the `build` package; PYTHON makes the new environment; TORCH is what to install as torch (empty: the
# environment named in MINITTT_WHEEL_VENV has it already).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
builder=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
python=${2:-python3}
torch=${3-torch==2.13.0}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$builder" -m build --quiet --outdir "$work/dist" "$root" > "$work/build.log" 2>&1 || { tail -n 30 "$work/build.log"; exit 1; }
venv=${MINITTT_WHEEL_VENV:-$work/venv}
[ -d "$venv" ] || "$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$root/constraints.txt" "$@"; }
[ -z "$torch" ] || pip "$torch"
pip "$work"/dist/*.whl

mkdir "$work/empty"
cd "$work/empty"
minittt=$venv/bin/minittt
"$minittt" --version
# the weights that learned from people come with their licence and attribution
licence=$("$venv/bin/python" -c "from minittt.settings import shipped_folder; print(shipped_folder('people') / 'LICENSE')")
grep -q "Free Spoken Digit Dataset" "$licence"
"$minittt" doctor
"$minittt" talk "what is two plus three" -o answer.wav --page reply.html | tee said.txt
grep -q "two plus three equals five" said.txt
test -s answer.wav && test -s reply.html
"$minittt" train -o run --steps 10 --records 8 --threads 2
test -s run/talker.safetensors && test -s run/curves.png
"$minittt" evaluate --split facts --limit 10 --json scores.json
test -s scores.json
echo "the wheel works: answered, trained ten steps, evaluated ten items, passed doctor"
