#!/bin/sh
# The command line on the CUDA backend, with the host shim in place of a GPU (docs/CUDA-HOST.md): runs that must agree, what
# a device too small says, faults in the middle of a run, Ctrl-C. All cases are exact/.
# usage: [B=build/asan] tests/cuda_run.test.sh   (after make; from the repository's root)
# shellcheck disable=SC2015,SC2086,SC2012 # `cond && ok || bad` is meant; names here have no spaces
LC_ALL=C
export LC_ALL
# shellcheck disable=SC2046
unset NO_COLOR TERM $(env | sed -n 's/^\(FR_[A-Z_]*\)=.*/\1/p')
root=$(pwd)
run=$root/${B:-build}/fr-run-shim
images=$root/tests/golden/e2e/images
model=$root/tests/golden/e2e/old-bf16-gqa-shards/model
work=$(mktemp -d "${TMPDIR:-/tmp}/fr-run-cuda.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0

ok() { echo "ok exact/cuda-run/$1"; }
bad() {
	failed=1
	echo "FAIL exact/cuda-run/$1: $2"
}
is() { [ "$2" = "$3" ] && ok "$1" || bad "$1" "expected '$2', got '$3'"; }
has() { grep -qE -- "$2" "$3" && ok "$1" || bad "$1" "no '$2' in: $(head -c 400 "$3")"; }
same() { cmp -s "$2" "$3" && ok "$1" || bad "$1" "$(cmp "$2" "$3" 2>&1)"; }
code() { # NAME WANT ARGUMENT...: the exit code; stdout in ./out, stderr in ./err
	name=$1 want=$2
	shift 2
	"$run" "$@" >out 2>err </dev/null
	got=$?
	[ $got -eq "$want" ] && ok "$name" || bad "$name" "exit $got, expected $want: $(head -c 400 err)"
}
one_sentence() { is "$1/one-sentence" 1 "$(wc -l <err | tr -d ' ')"; }

if [ ! -x "$run" ]; then
	echo "skip exact/cuda-run: $run is not built"
	exit 0
fi
files="$images/small.png $images/wide.png $images/edge.png"
cuda="--backend cuda --no-cublas -q --json --max-tokens 5"

# ---- the same lines, however it is run ----
code plain 0 -m $model $cuda --batch 1 $files
cp out want
has plain/engine '"backend":"cuda","isa":"sm_90","kv":"f16","activations":"16bit"' out
is plain/lines 3 "$(wc -l <out | tr -d ' ')"
for way in "" "--batch 2" "--batch 5" "--gpu-layers 0" "--gpu-layers 1 --batch 2" "--threads 1"; do
	code "same/${way:-default}" 0 -m $model $cuda $way $files
	same "same/${way:-default}/lines" want out
done
printf '%s\n' $files | while read -r f; do
	echo "$f"
	sleep 0.3
done | "$run" -m $model $cuda --files-from - >out 2>err
same same/slow-list want out
code precise 0 -m $model $cuda --precise --verdict-only $files
has precise/engine '"activations":"2x16bit"' out
code sampled 0 -m $model $cuda --temperature 0.8 --seed 3 --batch 1 $files
cp out sampled
code sampled/batch 0 -m $model $cuda --temperature 0.8 --seed 3 $files
same sampled/batch/lines sampled out
code map 0 -m $model $cuda --batch 1 --map maps $files
sed 's/"map":"[^"]*"/"map":null/' out >lines
same map/lines want lines
code map/together 0 -m $model $cuda --map together --verdict-only $files
diff -r maps together && [ "$(ls maps | wc -l)" -eq 3 ] && ok map/same-bytes || bad map/same-bytes "a batch changes a map"

# ---- known answers ----
code selftest 0 selftest
has selftest/kernels '^ok kernels/cuda/linear_f32' out
has selftest/demo '^ok demo/cuda' out

# ---- memory ----
FR_SHIM_MEMORY=1
export FR_SHIM_MEMORY
code memory/default 0 -m $model $cuda $files # a batch that nobody asked for becomes smaller
same memory/default/lines want out
code memory/batch 3 -m $model $cuda --batch 8 $files
one_sentence memory/batch
has memory/batch/numbers 'takes [0-9.]+ MiB of device memory \(weights [0-9.]+ KiB, buffers for a batch of 8 [0-9.]+ MiB\), but host shim has 1.0 MiB free of 1.0 MiB; --batch [0-9]+ would fit' err
fits=$(sed 's/.*--batch \([0-9]*\).*/\1/' err)
code memory/batch/fits 0 -m $model $cuda --batch "$fits" $files
same memory/batch/lines want out
code memory/batch/one-more 3 -m $model $cuda --batch $((fits + 1)) $files
code memory/never 3 -m demo $cuda $files
one_sentence memory/never
has memory/never/advice 'layers on the host; --backend cpu takes none of it$' err
FR_SHIM_MEMORY=7
code memory/layers 3 -m demo $cuda --batch 1 $files
one_sentence memory/layers
has memory/layers/numbers '--gpu-layers [0-9]+ would fit' err
fits=$(sed 's/.*--gpu-layers \([0-9]*\).*/\1/' err)
code memory/layers/fits 0 -m demo $cuda --batch 1 --gpu-layers "$fits" --verdict-only $images/small.png
code memory/plan 0 -m demo --backend cuda --batch 1 --gpu-layers "$fits" --verdict-only -v $images/small.png
has memory/plan/device 'device memory: weights .* free, 7.0 MiB in all \(host shim\)' err
has memory/plan/host "host memory: the last [0-9] of 3 decoder layers" err
code memory/info 0 info demo --backend cuda --batch 1
has memory/info/numbers 'host shim, sm_90: 7.0 MiB in all, 7.0 MiB free' out
has memory/info/says 'MiB together: .* would fit' out
code memory/info/json 0 info demo --backend cuda --batch 1 --json
has memory/info/fits '"device":\{"name":"host shim","isa":"sm_90","weights":[0-9]+,.*"total":7340032,"fits":false\}' out
unset FR_SHIM_MEMORY
code memory/info/room 0 info demo --backend cuda --json
has memory/info/fits-there '"batch":8,"device":\{.*"fits":true\}' out

# ---- faults: one sentence, exit 3, and what was complete is out ----
for n in 1 2 3 5 8; do
	FR_SHIM_ALLOC_FAIL=$n
	export FR_SHIM_ALLOC_FAIL
	code "fault/memory-$n" 3 -m $model $cuda $files
	one_sentence "fault/memory-$n"
	is "fault/memory-$n/out" "" "$(cat out)"
done
unset FR_SHIM_ALLOC_FAIL
seen=" "
for n in 10 150 200 300; do
	FR_SHIM_FAIL=$n
	export FR_SHIM_FAIL
	code "fault/kernel-$n" 3 -m $model $cuda --batch 1 $files
	one_sentence "fault/kernel-$n"
	has "fault/kernel-$n/says" 'host shim: (kernel [a-z0-9_]+|.*step).*illegal memory access' err
	head -n "$(wc -l <out)" want >part
	same "fault/kernel-$n/complete" part out
	seen="$seen$(wc -l <out | tr -d ' ') "
done
case $seen in
*" 0 "*[12]*) ok fault/kernel/in-the-middle ;;
*) bad fault/kernel/in-the-middle "lines before the fault:$seen" ;;
esac
FR_SHIM_FAIL=60
code fault/kernel-together 3 -m $model $cuda $files
one_sentence fault/kernel-together
unset FR_SHIM_FAIL

# ---- Ctrl-C between recorded steps; `env` gives a background job its SIGINT back ----
yes "$images/small.png" | env --default-signal=INT "$run" -m $model $cuda --files-from - >piped 2>err &
pid=$!
n=0
until [ "$(wc -l <piped)" -ge 2 ] || [ $n -ge 400 ]; do
	n=$((n + 1))
	sleep 0.1
done
kill -INT $pid
wait $pid
is int/code 130 $?
head -n 1 piped | grep -q '^{.*}$' && [ "$(grep -c '^{.*"error":null}$' piped)" -eq "$(wc -l <piped)" ] &&
	ok int/complete-lines || bad int/complete-lines "$(tail -c 200 piped)"

exit $failed
