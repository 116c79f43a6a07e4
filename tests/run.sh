#!/bin/sh
# Runs test programs and adds up their lines. usage: tests/run.sh [-x] PROGRAM...   (-x: stop at the first failure)
# A program that dies without a FAIL line counts as one failure. Output goes to build/tests/*.log ($B in place of build).
stop=0
[ "$1" = "-x" ] && { stop=1; shift; }
B=${B:-build}
pass=0 fail=0 skip=0
mkdir -p "$B/tests"
for prog in "$@"; do
	name=$(basename "$prog")
	log=$B/tests/$name.log
	start=$(date +%s)
	"$prog" >"$log" 2>"$log.err"
	rc=$?
	p=$(grep -c '^ok ' "$log") f=$(grep -c '^FAIL ' "$log") s=$(grep -c '^skip ' "$log")
	if [ $rc -ne 0 ] && [ "$f" -eq 0 ]; then
		f=1
		echo "FAIL $name: exit status $rc without a failed case"
		tail -n 20 "$log.err"
	fi
	if [ "$((p + f + s))" -eq 0 ]; then
		f=1
		echo "FAIL $name: ran no case"
	fi
	grep -E '^(FAIL|skip) ' "$log"
	printf '%-24s %5d passed %3d failed %3d skipped  %4ds\n' "$name" "$p" "$f" "$s" "$(($(date +%s) - start))"
	pass=$((pass + p)) fail=$((fail + f)) skip=$((skip + s))
	[ $stop -eq 1 ] && [ "$fail" -gt 0 ] && break
done
echo "$pass passed, $fail failed, $skip skipped"
[ "$fail" -eq 0 ]
