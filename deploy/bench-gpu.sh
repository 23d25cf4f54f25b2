#!/bin/sh
# Measure on a machine with an NVIDIA GPU: models, batching and the whole pipeline, in under 8 minutes.
#
#   deploy/bench-gpu.sh MODELS [OUT]
#
# MODELS is a folder of ONNX files named as in the registry (yoloface_8n, 2dfan4, arcface_w600k_r50, hyperswap_1a_256,
# and where wanted inswapper_128, gfpgan_1.4), or a Python script that writes such stand-in graphs when it is called as
# `script FOLDER NAME...`. Tables, JSON and plots come to OUT (default: bench-gpu). Needs a checkout with its `.venv`
# and the extra `cuda` in it; nothing is installed here and nothing of the deployment's engine is touched.
#
# THIS HAS NOT RUN on a GPU yet: no machine with one was at hand. With BENCH_PROVIDERS=require:cpu its models and batch
# parts ended on a busy machine of two cores, and the pipeline ran into its limit there.
set -eu
[ $# -ge 1 ] || { sed -n '2,13p' "$0"; exit 2; }
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
providers=${BENCH_PROVIDERS:-require:cuda}
models=$1
out=${2:-bench-gpu}
mkdir -p "$out"
IMPRIMATUR_HOME=$(mktemp -d)
export IMPRIMATUR_HOME IMPRIMATUR_MODELS="${IMPRIMATUR_MODELS:-$PWD/var/models}"
trap 'rm -rf "$IMPRIMATUR_HOME"' EXIT

if [ "$providers" = require:cuda ]; then
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader > "$out/gpu.txt"
    cat "$out/gpu.txt"
    "$python" -c 'import onnxruntime as o, sys; sys.exit("CUDAExecutionProvider" not in o.get_available_providers())' || {
        echo "This ONNX Runtime has no CUDA provider. Nothing was measured. Install the extra: pip install -e '.[cuda]'." >&2
        exit 1
    }
fi
case $models in
*.py)
    "$python" "$models" "$IMPRIMATUR_HOME/stand-ins" yoloface_8n 2dfan4 arcface_w600k_r50 hyperswap_1a_256 inswapper_128 gfpgan_1.4
    models=$IMPRIMATUR_HOME/stand-ins
    ;;
esac

failed=0
bench() { # seconds, name, options
    limit=$1 name=$2
    shift 2
    echo "== bench $name"
    timeout -s INT -k 20 "$limit" "$python" manage.py bench "$name" --models "$models" --providers "$providers" \
        --json "$out/$name.json" --out "$out" "$@" 2>"$out/$name.log" | tee "$out/$name.txt"
    [ -s "$out/$name.json" ] || { failed=1; echo "bench $name did not end: see $out/$name.log" >&2; tail -3 "$out/$name.log" >&2; }
}
# The first run imports the models; latency at batch 1, items per second up to 16, memory, joules, nodes on the CPU.
bench 180 models --seconds 0.5 --largest 16
bench 45 batch --seconds 2
# Busy share of the device, frames per second, joules a frame, and the host's share beside them.
bench 170 pipeline --seconds 2 6 --neural-frames 50 250
exit $failed
