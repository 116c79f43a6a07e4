#!/bin/sh
# What a GPU is needed for: the kernel check with every row, the goldens end to end, the known answers, and both under
# compute-sanitizer. usage: make test-gpu, or tests/gpu.sh [rows|e2e|sanitizer]...   (no argument: all, in this order)
#   rows       tests/cuda_kernels on the device, real shapes included: bounds, bits, the same bits alone as among others;
#              tests/cuda_map and cuda_lora
#   e2e        tests/cuda_e2e on the device, fr-run selftest, the same lines from the command line at batch 1 and 5
#   sanitizer  memcheck and racecheck on the small rows, where compute-sanitizer is there
# Exit 0: all passed on a device; 1: something failed, or there is no device; 2: usage.
B=${B:-build}
export B
limit=${GPU_TEST_SECONDS:-540} # for each program
parts=${*:-rows e2e sanitizer}
for p in $parts; do
	case $p in rows | e2e | sanitizer) ;; *) sed -n 3p "$0"; exit 2 ;; esac
done
[ -x ./fr-run ] && [ -x "$B/tests/cuda_kernels" ] && [ -x "$B/tests/cuda_lora" ] && [ -x "$B/tests/cuda_e2e" ] || { echo "run make test-gpu"; exit 2; }
mkdir -p "$B/tests"
log=$B/tests/gpu.log
picture=$(find samples -name '*.jpg' | LC_ALL=C sort | head -n 1)

# A device that answers, or the reason in the program's own words.
if ! ./fr-run -q -m demo --backend cuda --verdict-only "$picture" >"$log" 2>&1; then
	echo "test-gpu: no CUDA device to test on: $(sed -n 's/^fr-run: //p' "$log" | head -n 1)"
	exit 1
fi
device=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1)
echo "device: ${device:-unknown}; $(./fr-run --version | head -n 1)"

pass=0 fail=0 skip=0
count() { # LOG NAME STATUS: adds up the lines of a program
	p=$(grep -c '^ok ' "$1") f=$(grep -c '^FAIL ' "$1") s=$(grep -c '^skip ' "$1")
	if [ "$3" -ne 0 ] && [ "$f" -eq 0 ]; then
		f=1
		echo "FAIL $2: exit status $3$([ "$3" -eq 124 ] && echo " (over $limit s)")"
		tail -n 15 "$1"
	fi
	[ "$((p + f + s))" -gt 0 ] || { f=1; echo "FAIL $2: ran no case"; }
	grep -E '^(FAIL|skip) ' "$1" | head -n 40
	printf '%-28s %5d passed %3d failed %3d skipped\n' "$2" "$p" "$f" "$s"
	pass=$((pass + p)) fail=$((fail + f)) skip=$((skip + s))
}
program() { # NAME COMMAND...: a test program
	name=$1
	shift
	timeout "$limit" "$@" >"$B/tests/gpu-$name.log" 2>&1
	count "$B/tests/gpu-$name.log" "$name" $?
}
one() { # NAME COMMAND...: one case, passed when the command is
	name=$1
	shift
	if timeout "$limit" "$@" >"$log" 2>&1; then echo "ok $name"; else echo "FAIL $name: $(tail -n 3 "$log" | tr '\n' ' ')"; fi
}

judge() { # OUT OPTION...: the pictures of the goldens as JSON lines
	out=$1
	shift
	./fr-run -q -m tests/golden/e2e/old-bf16-gqa-shards/model --backend cuda --json --max-tokens 24 "$@" \
		tests/golden/e2e/images >"$out"
}
same_lines() {
	judge "$B/tests/gpu-1.jsonl" --batch 1 && judge "$B/tests/gpu-5.jsonl" --batch 5 &&
		cmp "$B/tests/gpu-1.jsonl" "$B/tests/gpu-5.jsonl"
}

for part in $parts; do
	case $part in
	rows)
		for t in cuda_kernels cuda_map cuda_lora; do
			FR_TEST_DEVICE=cuda program $t "$B/tests/$t"
		done
		;;
	e2e)
		FR_TEST_DEVICE=cuda program cuda_e2e "$B/tests/cuda_e2e"
		FR_TEST_DEVICE=cuda program cuda_speculate "$B/tests/cuda_speculate"
		program selftest ./fr-run selftest
		if same_lines 2>"$log"; then echo "ok exact/cli/batch-1-is-5"; else
			echo "FAIL exact/cli/batch-1-is-5: $(head -n 1 "$log") $(cmp "$B/tests/gpu-1.jsonl" "$B/tests/gpu-5.jsonl" 2>&1)"
		fi >"$B/tests/gpu-cli.log"
		count "$B/tests/gpu-cli.log" cli 0
		;;
	sanitizer)
		tool=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
		export FR_TEST_DEVICE=cuda FR_TEST_ROWS=small
		for t in memcheck racecheck; do
			if [ -z "$tool" ]; then echo "skip sanitizer/$t: compute-sanitizer is not here"; else
				one "sanitizer/$t" "$tool" --tool "$t" --error-exitcode 9 "$B/tests/cuda_kernels"
			fi
		done >"$B/tests/gpu-sanitizer.log"
		count "$B/tests/gpu-sanitizer.log" compute-sanitizer 0
		;;
	esac
done
echo "test-gpu: $pass passed, $fail failed, $skip skipped on ${device:-a device without nvidia-smi}"
[ "$fail" -eq 0 ]
