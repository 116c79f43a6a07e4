#!/bin/sh
# FakeReasoning's real shapes, random f16 weights: fr-run against torch in float32, and what a model larger than memory
# takes of it.
# usage: tests/oracle/full13b.sh DIR [IMAGE] [--layers N] [--towers N]
#   DIR    a folder with 30 GB to spare: takes the checkpoint (made once, 28 GB), the dumps and report.md
#   IMAGE  the picture; default: the first one of samples/
# PYTHON=python3 with the packages of tests/oracle/requirements.txt; FR_SHARED_DATA/llama-tokenizer.model is used when
# it is there, a stand-in of 32000 pieces otherwise. Exit 0: every stage of fr-run (--kv f32) is within 2e-5 of float32.
set -e
PYTHON=${PYTHON:-python3}
THREADS=${THREADS:-$(nproc)}
export FR_RUN_BACKEND=cpu FR_RUN_ISA=${FR_RUN_ISA:-avx2} # the comparison is with the CPU's float32
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=$1
[ -n "$dir" ] || { sed -n 4p "$0"; exit 2; }
shift
image=$(find "$root/samples" -type f \( -name '*.jpg' -o -name '*.png' -o -name '*.webp' \) 2>/dev/null | sort | head -n 1)
case ${1:--} in -*) ;; *) image=$1; shift ;; esac
[ -f "$image" ] || { echo "full13b.sh: no picture '$image'"; exit 2; }
mkdir -p "$dir"
py=$root/tests/oracle/full13b.py
model="-m $dir/model --dino $dir/dino.pth"

. "$root/tests/oracle/watch.sh"

line() { # NAME: one row of the table of runs from $dir/memory
	awk -v name="$1" '{printf "| %s | %.1f s | %.2f GB | %.3f GB | %.1f GB |\n", name, $3 / 1000, $1 / 1e6, $2 / 1e6, $4 / 1e9}' "$dir/memory"
}

tokenizer=${FR_SHARED_DATA:-$root/../shared/data}/llama-tokenizer.model
[ -f "$dir/model/model.safetensors.index.json" ] ||
	"$PYTHON" "$py" make "$dir" "$@" $([ -f "$tokenizer" ] && echo --tokenizer "$tokenizer")
[ -f "$dir/float32.safetensors" ] || "$PYTHON" "$py" run "$dir/model" "$dir/clip" "$dir/dino.pth" "$image" "$dir/float32.safetensors"

{
	echo "## Runs"
	echo
	echo "| run | time | peak resident | peak anonymous | read from disk |"
	echo "|---|---|---|---|---|"
	for kv in f32 f16; do
		watch "$root/fr-run" dump -q $model "$image" -o "$dir/fr-$kv.safetensors" --max-tokens 0 --kv $kv -t "$THREADS"
		line "fr-run dump, every tap, --kv $kv"
	done
	watch "$root/fr-run" -q $model --verdict-only --timings --json -t "$THREADS" "$image" >"$dir/verdict.json"
	line "fr-run --verdict-only"
	watch "$root/fr-run" -q $model --max-tokens 4 --timings --json -t "$THREADS" "$image" >"$dir/text.json"
	line "fr-run, 4 tokens"
	echo
	echo "Milliseconds: verdict only $(grep -o '"ms":{[^}]*}' "$dir/verdict.json"), with 4 tokens $(grep -o '"ms":{[^}]*}' "$dir/text.json")."
	echo
	echo "## Distances to torch in float32"
	echo
	"$PYTHON" "$py" table "$dir/float32.safetensors" "fr-run=$dir/fr-f32.safetensors" "fr-run kv f16=$dir/fr-f16.safetensors" || far=1
	echo "${far:-0}" >"$dir/outcome"
} >"$dir/report.md"
cat "$dir/report.md"
read -r far <"$dir/outcome"
[ "$far" -eq 0 ]
