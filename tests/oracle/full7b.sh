#!/bin/sh
# FakeVLM's real shapes, random weights: fr-run and transformers in bf16, both against transformers in float32.
# usage: tests/oracle/full7b.sh DIR [IMAGE] [--layers N] [--vision-layers N]
#   DIR    a folder with 20 GB to spare: takes the checkpoint (made once, 13.5 GB), the dumps and report.md
#   IMAGE  the picture; default: the first one of samples/
# PYTHON=python3 with the packages of tests/oracle/requirements.txt; FR_SHARED_DATA/llama-tokenizer.model is used when
# it is there, a stand-in of 32000 pieces otherwise. THREADS: as many as this process may run on. About 25 minutes and
# 6 GB of memory on two cores. Exit 0: every stage of fr-run is no further from float32 than transformers in bf16 and its
# anonymous memory stays below 1.5 GB.
set -e
PYTHON=${PYTHON:-python3}
THREADS=${THREADS:-$(nproc)}
export FR_RUN_BACKEND=cpu FR_RUN_ISA=${FR_RUN_ISA:-avx2} # the comparison is with the CPU's float32
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=$1
[ -n "$dir" ] || { sed -n 3p "$0"; exit 2; }
shift
image=$(find "$root/samples" -type f \( -name '*.jpg' -o -name '*.png' -o -name '*.webp' \) 2>/dev/null | sort | head -n 1)
case ${1:--} in -*) ;; *) image=$1; shift ;; esac
[ -f "$image" ] || { echo "full7b.sh: no picture '$image'"; exit 2; }
mkdir -p "$dir"
py=$root/tests/oracle/full7b.py
export TRANSFORMERS_VERBOSITY=error

. "$root/tests/oracle/watch.sh"

line() { # NAME: one row of the table of runs from $dir/memory
	awk -v name="$1" '{printf "| %s | %.1f s | %.2f GB | %.3f GB |\n", name, $3 / 1000, $1 / 1e6, $2 / 1e6}' "$dir/memory"
}

tokenizer=${FR_SHARED_DATA:-$root/../shared/data}/llama-tokenizer.model
[ -f "$dir/model/model.safetensors.index.json" ] ||
	"$PYTHON" "$py" make "$dir/model" "$@" $([ -f "$tokenizer" ] && echo --tokenizer "$tokenizer")
[ -f "$dir/float32.safetensors" ] || "$PYTHON" "$py" run "$dir/model" "$image" "$dir/float32.safetensors" float32
[ -f "$dir/bf16.safetensors" ] || "$PYTHON" "$py" run "$dir/model" "$image" "$dir/bf16.safetensors" bfloat16

{
	echo "## Runs"
	echo
	echo "| run | time | peak resident | peak anonymous |"
	echo "|---|---|---|---|"
	for kv in f32 f16; do
		watch "$root/fr-run" dump -q -m "$dir/model" "$image" -o "$dir/fr-$kv.safetensors" --max-tokens 0 --kv $kv -t "$THREADS"
		line "fr-run dump, every tap, --kv $kv"
		peak=$(awk -v p="${peak:-0}" '{print ($2 > p) ? $2 : p}' "$dir/memory")
	done
	watch "$root/fr-run" -q -m "$dir/model" --verdict-only --timings --json -t "$THREADS" "$image" >"$dir/verdict.json"
	line "fr-run --verdict-only"
	peak=$(awk -v p="$peak" '{print ($2 > p) ? $2 : p}' "$dir/memory")
	watch "$root/fr-run" -q -m "$dir/model" --max-tokens 16 --timings --json -t "$THREADS" "$image" >"$dir/text.json"
	line "fr-run, 16 tokens"
	peak=$(awk -v p="$peak" '{print ($2 > p) ? $2 : p}' "$dir/memory")
	echo
	echo "Milliseconds: verdict only $(grep -o '"ms":{[^}]*}' "$dir/verdict.json"), with 16 tokens $(grep -o '"ms":{[^}]*}' "$dir/text.json")."
	echo
	echo "## Distances to transformers in float32"
	echo
	"$PYTHON" "$py" table "$dir/float32.safetensors" "fr-run=$dir/fr-f32.safetensors" "fr-run kv f16=$dir/fr-f16.safetensors" \
		"bf16=$dir/bf16.safetensors" || far=1
	echo
	echo "Peak anonymous memory of fr-run: $((peak / 1000)) MB, limit 1500 MB."
	echo "${far:-0} $peak" >"$dir/outcome"
} >"$dir/report.md"
cat "$dir/report.md"
read -r far peak <"$dir/outcome"
[ "$far" -eq 0 ] && [ "$peak" -lt 1500000 ]
