# What the black-box tests of the command line share: a scratch folder, in which they run, and how a case is written.
# shellcheck shell=sh disable=SC2015,SC2034,SC2046,SC2086,SC2317
LC_ALL=C
export LC_ALL
# shellcheck disable=SC2046
unset NO_COLOR TERM $(env | sed -n 's/^\(FR_RUN_[A-Z_]*\)=.*/\1/p')
FR_RUN_THREADS=1 # the model is small: on a busy machine threads would only wait for each other
CUDA_VISIBLE_DEVICES=-1 # no GPU, also where there is one: bits are those of the CPU
export FR_RUN_THREADS CUDA_VISIBLE_DEVICES
root=$(pwd)
run=$root/${PROGRAM:-fr-run}
example=$root/${B:-build}/tests/example
images=$root/tests/golden/e2e/images
demo=$root/weights/demo/model
work=$(mktemp -d "${TMPDIR:-/tmp}/fr-run-cli.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0
# The best level here of those that give the bits of ref.
exact=ref
for level in avx2 avx512; do
	"$run" --version | grep -q "^machine: .*levels .* $level," && exact=$level
done

ok() { echo "ok exact/cli/$1"; }
bad() {
	failed=1
	echo "FAIL exact/cli/$1: $2"
}
skip() { echo "skip exact/cli/$1: $2"; }
# is NAME WANT GOT
is() { [ "$2" = "$3" ] && ok "$1" || bad "$1" "expected '$2', got '$3'"; }
# has NAME TEXT FILE: a fixed string in it
has() { grep -qF -- "$2" "$3" && ok "$1" || bad "$1" "no '$2' in: $(head -c 300 "$3")"; }
# code NAME WANT ARGUMENT...: the exit code; stdout in ./out, stderr in ./err
code() {
	name=$1 want=$2
	shift 2
	"$run" "$@" >out 2>err </dev/null
	got=$?
	[ $got -eq "$want" ] && ok "$name" || bad "$name" "exit $got, expected $want: $(head -c 300 err)"
}
# says NAME CODE SENTENCE ARGUMENT...: the exit code, one line on stderr, and a part of it
says() {
	name=$1 want=$2 sentence=$3
	shift 3
	"$run" "$@" >out 2>err </dev/null
	got=$?
	if [ $got -ne "$want" ]; then
		bad "$name" "exit $got, expected $want: $(head -c 300 err)"
	elif [ "$(wc -l <err)" -ne 1 ] || [ -s out ]; then
		bad "$name" "expected one line on stderr and nothing on stdout, got: $(head -c 300 err out)"
	else
		has "$name" "$sentence" err
	fi
}
wait_for() { # CONDITION...: up to 20 s
	n=0
	until "$@"; do
		n=$((n + 1))
		[ $n -lt 200 ] || return 1
		sleep 0.1
	done
}
lines_at_least() { [ "$(cat $2 2>/dev/null | wc -l)" -ge "$1" ]; } # NUMBER GLOB
