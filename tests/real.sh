#!/bin/sh
# The parity report of real weights, for those who have them: what was run, on what, with which numbers, and how far
# fr-run is from PyTorch on the same files. One text file to send back (an issue is a good place).
# usage: tests/real.sh DIR [IMAGE...]      default images: the samples
#   DIR        a FakeVLM or FakeReasoning checkpoint as published; where FakeReasoning's other parts are, if not beside it:
#              FR_RUN_VISION_TOWER=DIR FR_RUN_DINO=FILE (FR_RUN_BASE=DIR of a LoRA one, which has no comparison)
#   PYTHON     a Python with tests/oracle/requirements.txt: adds the comparison (float32, layer by layer, 6 GB of memory,
#              some minutes); without one the report holds fr-run's side alone
#   OUT        the report; default: fr-run-parity-<date>.txt
# The pictures' names and hashes are in the report, the pictures themselves are not. Exit 0: done; 1: something in it
# failed or disagrees; 2: usage.
root=$(cd "$(dirname "$0")/.." && pwd)
dir=$1
[ -f "$dir/config.json" ] || { echo "usage: tests/real.sh DIR [IMAGE...] (DIR holds no config.json: '$dir')"; exit 2; }
[ -x "$root/fr-run" ] || { echo "run make first"; exit 2; }
shift
[ $# -gt 0 ] || set -- "$root/samples"
OUT=${OUT:-fr-run-parity-$(date -u +%Y-%m-%d).txt}
PYTHON=${PYTHON:-python3}
work=$(mktemp -d "${TMPDIR:-/tmp}/fr-run-real.XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT INT TERM
bad=0

title() { printf '\n== %s\n\n' "$1"; }
run() { # a command, its output, its exit status if that is not 0, its seconds
	echo "\$ $(echo "$*" | sed "s|$root/||g; s|$work/||g")"
	start=$(date +%s)
	"$@" 2>&1
	status=$?
	[ $status -eq 0 ] || { echo "exit status $status"; bad=1; }
	echo "($(($(date +%s) - start)) s)"
}

# The first picture among the arguments, for the comparison.
first() {
	for p in "$@"; do
		find -L "$p" -type f \( -iname '*.jpg' -o -iname '*.jpeg' -o -iname '*.png' -o -iname '*.webp' -o -iname '*.bmp' \) |
			LC_ALL=C sort
	done | head -n 1
}

# A string of `fr-run info --json`: the path of a part.
part() {
	"$root/fr-run" info "$dir" --json | sed -n 's/.*"part":"'"$1"'","path":"\([^"]*\)".*/\1/p'
}

# The reference's taps in float32.
reference() {
	if grep -q LlavaLlamaForCausalLM "$dir/config.json"; then
		"$PYTHON" "$root/tests/oracle/full13b.py" run "$dir" "$(part vision-tower)" "$(part dino)" "$1" "$2"
	else
		"$PYTHON" "$root/tests/oracle/full7b.py" run "$dir" "$1" "$2" float32
	fi
}

compare() {
	"$PYTHON" -c 'import torch, transformers, sentencepiece, safetensors, PIL
for m in torch, transformers, safetensors, PIL: print(m.__name__, m.__version__)' 2>"$work/why" || {
		echo "no comparison: $PYTHON: $(tail -n 1 "$work/why")"
		return 0
	}
	image=$(first "$@")
	echo "picture: $(basename "$image")"
	if [ -f "$dir/adapter_config.json" ]; then
		echo "no comparison: adapters are compared in the tests alone"
		return 0
	fi
	TRANSFORMERS_VERBOSITY=error reference "$image" "$work/want.safetensors" 2>"$work/why" || {
		echo "the reference failed: $(tail -n 1 "$work/why")"
		return 1
	}
	"$root/fr-run" dump -q -m "$dir" "$image" -o "$work/exact.safetensors" --max-tokens 0 --kv f32 --isa avx2 &&
		"$root/fr-run" dump -q -m "$dir" "$image" -o "$work/best.safetensors" --max-tokens 0 || return 1
	table=full7b.py
	grep -q LlavaLlamaForCausalLM "$dir/config.json" && table=full13b.py
	"$PYTHON" "$root/tests/oracle/$table" table "$work/want.safetensors" \
		"fr-run --isa avx2 --kv f32=$work/exact.safetensors" "fr-run as it runs by itself=$work/best.safetensors"
}

{
	echo "fr-run parity report, $(date -u '+%Y-%m-%d %H:%M') UTC"
	title "Program and machine"
	run "$root/fr-run" --version
	git -C "$root" log -1 --format='commit %H' 2>/dev/null
	uname -srm
	sed -n 's/^model name[^:]*: /CPU: /p' /proc/cpuinfo | sort | uniq -c
	grep -E '^Mem(Total|Available)' /proc/meminfo
	run "$root/fr-run" selftest
	title "Checkpoint"
	(cd "$dir" && ls -l -- *.json *.model *.safetensors 2>/dev/null | awk '{print $5, $NF}')
	(cd "$dir" && sha256sum -- *.json *.model 2>/dev/null)
	run "$root/fr-run" info "$dir" --check
	title "Verdicts"
	run "$root/fr-run" -q -m "$dir" --json --timings --max-tokens 200 "$@"
	title "Verdicts alone, other threads: the same numbers to the last digit"
	"$root/fr-run" -q -m "$dir" --json --verdict-only "$@" >"$work/all"
	"$root/fr-run" -q -m "$dir" --json --verdict-only -t 1 --batch 3 "$@" >"$work/one"
	if cmp -s "$work/all" "$work/one"; then echo "same"; else echo "DIFFERENT"; diff "$work/all" "$work/one"; bad=1; fi
	title "Distance to PyTorch in float32, stage by stage"
	compare "$@" || bad=1
	echo
	[ $bad -eq 0 ] && echo "report: all ran" || echo "report: SOMETHING FAILED, see above"
	echo $bad >"$work/bad"
} >"$OUT"
cat "$OUT"
echo "written to $OUT"
exit "$(cat "$work/bad")"
