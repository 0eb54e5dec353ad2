#!/usr/bin/env bash
# What verifying, exporting and merging an adapter of full size takes:
#     python benchmarks/full_size_model.py /tmp/sdxl --pictures 1
#     benchmarks/full_size_verify.sh /tmp/sdxl/model
set -uo pipefail
model=$1
place=$(mktemp -d)
python3 -c "
import sys; sys.path.insert(0, 'benchmarks')
from pathlib import Path
from full_size_rungs import write_adapter
write_adapter(Path('$place/dora.safetensors'))"
run() { echo "== $*"; /usr/bin/time -f '%e s, %M KiB resident' timeout "${SECONDS_EACH:-170}" python3 -m rasengan_xl "$@" 2>&1 | tail -"${LINES_EACH:-6}"; }
run verify "$place/dora.safetensors" --base "$model"
run export "$place/dora.safetensors" --base "$model" --to merged --out "$place/merged.safetensors" --dtype fp16
run export "$place/dora.safetensors" --base "$model" --to comfyui --target comfyui@0.3.77 --out "$place/comfyui.safetensors"
run export "$place/dora.safetensors" --base "$model" --to kohya --rank 32 --out "$place/plain.safetensors"
ls -l "$place"
