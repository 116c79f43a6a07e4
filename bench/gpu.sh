#!/bin/sh
# Measures a GPU and what fr-run makes of it, beside PyTorch and transformers on the same shapes and weights in one run.
# usage: make bench-gpu [PART=...], or bench/gpu.sh [kernels|model|peers]...   (no argument: all; each below 9 minutes)
#   kernels  the device's peaks, every kernel at real shapes, the prefill products again without cuBLASLt (what
#            kernels/cuda/lt.h's FR_LT_LEAST is decided by), torch (cuBLAS, flash SDPA) on the same rows
#   model    the 7B's shapes with random bf16 weights, made here: load, vision, prefill, decode, verdicts, memory
#   peers    transformers eager and with static cache and torch.compile on that checkpoint
# After each part bench/results/CARD-DATE-COMMIT.json and .txt hold all that was measured of this commit on this day.
# PYTHON (python3) with torch, transformers, safetensors, sentencepiece for peers and the checkpoint. MODEL_DIR: where the
# checkpoint lies or is made (13.5 GB; default /dev/shm/fr-run-7b). TINY=1: tiny shapes, to try the script. FR_RUN: the
# program. Exit 0: all parts ran, whatever the numbers; 1: a part failed or there is no device.
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 2
PYTHON=${PYTHON:-python3}
FR_RUN=${FR_RUN:-./fr-run}
MODEL_DIR=${MODEL_DIR:-/dev/shm/fr-run-7b${TINY:+-tiny}}
work=$root/bench/results/tmp
parts=${*:-kernels model peers}
for p in $parts; do
	case $p in kernels | model | peers) ;; *) sed -n 3p "$0"; exit 2 ;; esac
done
picture=$(find samples -name '*.jpg' | LC_ALL=C sort | head -n 1)
mkdir -p "$work"
bad=0
most=${TINY:+1} most=${most:-16}
step() { # SECONDS OUT COMMAND...: a bounded command, its output there; the others go on without it
	seconds=$1 out=$2
	shift 2
	start=$(date +%s)
	timeout "$seconds" "$@" >"$work/$out.part" 2>"$work/$out.err"
	status=$?
	mv "$work/$out.part" "$work/$out"
	echo "$(($(date +%s) - start)) s: $*"
	[ $status -eq 0 ] && return 0
	bad=1
	echo "  FAILED with status $status$([ $status -eq 124 ] && echo " (over $seconds s)"): $(tail -n 1 "$work/$out.err")"
	return 1
}

"$FR_RUN" -q -m demo --backend cuda --verdict-only --max-pixels 100000000 "$picture" >"$work/probe" 2>&1 || {
	echo "bench-gpu: no CUDA device to measure: $(sed -n 's/^fr-run[^:]*: //p' "$work/probe" | head -n 1)"
	exit 1
}

need_model() {
	[ -f "$MODEL_DIR/model.safetensors.index.json" ] ||
		step 240 make.txt "$PYTHON" bench/peers/make_7b.py "$MODEL_DIR" ${TINY:+--tiny}
}

# Pictures a second from the command line: many files that differ in one byte, less what a few take.
folder() { # DIR N
	mkdir -p "$1"
	i=0
	while [ $i -lt "$2" ]; do
		{ cat "$picture"; printf '%05d' $i; } >"$1/$i.jpg"
		i=$((i + 1))
	done
}
seconds_of() { # DIR: wall seconds of judging it
	start=$(date +%s%N)
	timeout 150 "$FR_RUN" -q -m "$MODEL_DIR" --backend cuda --verdict-only --json "$1" >"$work/cli.lines" 2>"$work/cli.err" || return 1
	echo "$start $(date +%s%N)" | awk '{print ($2 - $1) / 1e9}'
}
verdicts() {
	few=${TINY:+2} few=${few:-16} many=${TINY:+4} many=${many:-400}
	rm -rf "$work/few" "$work/many"
	folder "$work/few" "$few"
	folder "$work/many" "$many"
	a=$(seconds_of "$work/few") && b=$(seconds_of "$work/many") && awk -v a="$a" -v b="$b" -v n=$((many - few)) -v m="$few" \
		'BEGIN {printf "{\"bench\":\"model\",\"what\":\"verdicts from files\",\"images_s\":%.5g,\"seconds_few\":%s,\"few\":%d}\n", n / (b - a), a, m}'
	status=$?
	rm -rf "$work/few" "$work/many"
	return $status
}

for part in $parts; do
	case $part in
	kernels)
		filter=${TINY:+norm_*m1_*}
		step 230 kernels.jsonl "$FR_RUN" bench kernels --backend cuda --json --filter "${filter:-*}" &&
			step 80 ours.jsonl "$FR_RUN" bench kernels --backend cuda --no-cublas --json --filter "${filter:-[lg]*_[bf]*16/m[45][0-9]*}" &&
			step 230 peer-kernels.jsonl "$PYTHON" bench/peers/transformers_gpu.py kernels "$work/kernels.jsonl"
		;;
	model)
		need_model || continue
		(while nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits 2>/dev/null; do sleep 0.3; done) >"$work/memory.mib" &
		sampler=$!
		step 200 model.jsonl "$FR_RUN" bench model -m "$MODEL_DIR" --backend cuda --json --batch "$most" ${TINY:+--max-tokens 12 --seconds 0.01} "$picture"
		kill $sampler 2>/dev/null
		verdicts >"$work/verdicts.jsonl" || { bad=1; echo "verdicts from files: $(tail -n 1 "$work/cli.err")"; }
		;;
	peers)
		need_model || continue
		step 60 input.txt "$FR_RUN" dump -q -m "$MODEL_DIR" --backend cpu --max-tokens 0 --tap '[ip][nix]*' "$picture" -o "$work/input.safetensors" ||
			continue
		peer="$PYTHON bench/peers/transformers_gpu.py model $MODEL_DIR $work/input.safetensors --image $picture"
		[ -z "$TINY" ] || peer="$peer --tokens 8 --batches 1 --seconds 0.05"
		# shellcheck disable=SC2086
		step 180 peer-eager.jsonl $peer
		# shellcheck disable=SC2086
		step 270 peer-compiled.jsonl $peer --compile --batches 1
		;;
	esac
done
"$PYTHON" bench/peers/report.py "$work" bench/results "$("$FR_RUN" --version | head -n 1)" || bad=1
exit $bad
