#!/usr/bin/env bash
# The whole chain at small size, in minutes: raw videos -> prepared clips -> a model -> its report.
# Run from the root of the repository with the environment of `python3 run.py test` active:
#
#   bash scripts/whole_chain.sh TALKING LABELS.csv
#
# TALKING  talking videos with their own sound; LABELS.csv has the columns file,speaker,emotion,sound
#
# The speech embedder is that of the built-in model, so no phone corpora are needed. Every step
# continues where an interrupted one stopped; run it again and it only makes the report anew.
set -euo pipefail
talking=$1 labels=$2 run=runs/chain

moda prepare "$talking" "$run/prepared" --labels "$labels" --workers 2
moda train recipes/chain.json -o "$run/model"
moda evaluate "$run/prepared" --recipe recipes/chain.json --model "$run/model/chain.safetensors" \
    --compare moda-tiny --quick -o "$run/report.json"
moda generate examples/portrait.jpg examples/speech.wav --model "$run/model/chain.safetensors" \
    -o "$run/talk.mp4"
