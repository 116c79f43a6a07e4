#!/bin/sh
# Runs the fuzz targets that `make fuzz` built into DIR, FUZZ_SECONDS (60) together. usage: tests/fuzz/run.sh DIR NAME...
# Each works on a copy of its corpus in DIR/corpus/; inputs that break one stay in DIR/found/ and fail the run.
dir=$1
shift
each=$((${FUZZ_SECONDS:-60} / $#))
[ $each -ge 1 ] || each=1
failed=0
mkdir -p "$dir/found"
for name in "$@"; do
	corpus=$dir/corpus/$name log=$dir/$name.log
	mkdir -p "$corpus"
	[ -d "tests/fuzz/corpus/$name" ] && cp tests/fuzz/corpus/"$name"/* "$corpus"/
	"$dir/tests/fuzz/$name" -max_total_time=$each -timeout=10 -rss_limit_mb=3000 -print_final_stats=1 \
		-artifact_prefix="$dir/found/$name-" "$corpus" >"$log" 2>&1
	rc=$?
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
	if [ $rc -eq 0 ]; then
		echo "fuzz $name: ${each}s, ${runs:-0} executions, nothing found"
	else
		failed=1
		echo "fuzz $name: a finding after ${runs:-?} executions, see $log:"
		grep -E 'ERROR|SUMMARY|runtime error|Test unit written' "$log" || tail -n 20 "$log"
	fi
done
exit $failed
