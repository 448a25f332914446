#!/usr/bin/env bash
# The whole way in minutes, on nobody's private data: portraits of examples/ and synthesised speech
# become a miniature corpus, the corpus becomes prepared clips, a model, its report and a video.
# Needs espeak-ng (docs/text.md). Run from the root of the repository with the environment of
# `python3 run.py test` active:
#
#   bash scripts/whole_chain.sh
#
# The corpus is made by moda-tiny itself, so the model can learn nothing new: this shows how the
# commands fit together. docs/training.md says what to change for videos of your own. Every step
# continues where an interrupted one stopped; run it again and it only makes report and video anew.
set -euo pipefail

mkdir -p runs/miniature/videos
cp examples/miniature/*.csv runs/miniature/videos/
moda generate --batch runs/miniature/videos/list.csv
moda prepare runs/miniature/videos runs/miniature/prepared --labels runs/miniature/videos/labels.csv
moda train recipes/miniature.json -o runs/miniature/model
moda evaluate runs/miniature/prepared --recipe recipes/miniature.json --quick \
    --model runs/miniature/model/miniature.safetensors --compare moda-tiny -o runs/miniature/report.json
moda generate examples/portrait.jpg examples/speech.wav -o runs/miniature/talk.mp4 \
    --model runs/miniature/model/miniature.safetensors
