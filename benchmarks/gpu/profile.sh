#!/usr/bin/env bash
# Measure one GPU and compare with the measured tables that exist for it.
#
#   benchmarks/gpu/profile.sh h100-sxm-80gb [MODEL] [FOLDER]
#
# The first argument is the device's name in the catalog (`tokensim devices`). Needs `pip install 'tokensim[profile,measured]'`;
# with vLLM or FlashInfer installed their kernels are measured too. Ends within 30 minutes and can be started again: it goes on
# where it was. Nothing else should run on the GPU.
set -euo pipefail

device=${1:?the name of this GPU in the catalog, e.g. h100-sxm-80gb}
model=${2:-meta-llama/Llama-3.1-8B}
folder=${3:-profile-$device}

tokensim profile --device cuda:0 --model "$model" --base "$device" --plan

# Exit code 1 is a budget that ended before the error that was asked for: what there is can be compared.
resume=()
if [ -e "$folder/measurements.jsonl" ]; then resume=(--resume); fi
tokensim profile --device cuda:0 --model "$model" --base "$device" --budget 30min --error 5% \
  --output "$folder" "${resume[@]}" || [ $? -eq 1 ]

tokensim profiles show "$folder" | tee "$folder/show.txt"
if tokensim profiles list aiconfigurator --device "$device" >/dev/null 2>&1; then
  for engine in vllm sglang trtllm; do
    echo "against aiconfigurator-core, $engine:"
    tokensim profiles compare "$folder" aiconfigurator --hardware "$device" --engine "$engine" || true
  done | tee "$folder/compare.txt"
else
  echo "aiconfigurator-core has no tables of $device"
fi
