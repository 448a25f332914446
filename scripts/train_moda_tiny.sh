#!/usr/bin/env bash
# From raw folders to the weights of moda-tiny. Run from the root of the repository with the
# environment of `python3 run.py test` active:
#
#   bash scripts/train_moda_tiny.sh TALKING SILENT SPEECH
#
# TALKING  talking videos with their own sound, and labels.csv (file,speaker,emotion,sound)
# SILENT   moving faces without usable sound, and labels.csv
# SPEECH   natural recordings for guessed phone labels
#
# Needs the Debian packages named in scripts/synthesize_speech.py and the extra `corpora`.
# Every step continues where an interrupted one stopped. All clips are kept, those outside the limits
# of quality too: the weights in the package were made from all. docs/corpora.md has the limits.
set -euo pipefail
talking=$1 silent=$2 speech=$3

moda prepare "$talking" runs/prepared/talking --labels "$talking/labels.csv" --keep-all
moda prepare "$silent" runs/prepared/silent --labels "$silent/labels.csv" --no-sound --keep-all
python scripts/synthesize_speech.py runs/phones --espeak-hours 3 --flite-hours 0.6 --festival-hours 0.8
python scripts/label_speech.py "$speech" runs/phones/natural.npz
python scripts/label_speech.py "$talking" runs/phones/talking.npz
moda train recipes/moda-tiny.json -o runs/moda-tiny
moda evaluate runs/prepared/talking --recipe recipes/moda-tiny.json \
    --model runs/moda-tiny/moda-tiny.safetensors -o runs/moda-tiny/report.json \
    --clip-phones runs/phones/talking.npz --phones runs/phones/espeak.npz \
    --phones runs/phones/flite.npz --phones runs/phones/festival.npz
