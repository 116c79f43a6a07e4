#!/bin/sh
# Deliberate faults: each must turn the tests red. usage: tests/mutants.sh [NAME...]   (default: all of mutants/rules)
# Works in a copy of the tracked files. Each fault is applied there, built, and the test programs run until the first
# failure (end to end first: most faults show there within seconds). Prints what caught which; exit 1 when a fault
# survives, when a rule no longer changes its file, or when the unchanged sources are not green. About five minutes on
# two cores.
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT INT TERM
cd "$root" || exit 2
git ls-files -z | xargs -0 cp --parents -t "$work" || exit 2
cd "$work" || exit 2
rules=$root/tests/mutants/rules
jobs=$(nproc)

# All test programs, those that show most faults first.
programs() {
	first="e2e e2e_fakereasoning e2e_demo repeat steps verdict image tokenizer"
	for p in $first; do echo "build/tests/$p"; done
	for p in tests/*.c; do
		p=$(basename "$p" .c)
		case " $first example " in *" $p "*) ;; *) echo "build/tests/$p" ;; esac
	done
	ls tests/*.test.sh
}
PROGRAMS=$(programs)

# Builds and tests what lies in $work; the first failure goes to $work.log. 0: green, 2: does not build.
green() {
	make -j"$jobs" NVCC= test RUN=true >"$work.make" 2>&1 || { echo "does not build: $(grep -m 1 -E 'error|undefined' "$work.make")" >"$work.log"; return 2; }
	# shellcheck disable=SC2086  # a list of names
	timeout 600 tests/run.sh -x $PROGRAMS >"$work.log" 2>&1
}

# The rule's edits: lines "FILE SED" of its block. Each must change its file.
apply() {
	awk -v want="$1" '/^== / {on = ($2 == want ":"); next} on && NF && !/^#/' "$rules" >"$work.edits"
	[ -s "$work.edits" ] || { echo "no rule of that name"; return 1; }
	while read -r file edit; do
		cp "$file" "$work.before" && sed -i -E "$edit" "$file"
		cmp -s "$file" "$work.before" && { echo "rule does not apply to $file: $edit"; return 1; }
	done <"$work.edits"
	return 0
}

restore() {
	while read -r file edit; do
		cp "$root/$file" "$file"
	done <"$work.edits"
}

green || { echo "the unchanged sources are not green:"; grep -E 'FAIL|does not build' "$work.log"; exit 1; }
names=${*:-$(sed -n 's/^== \([^:]*\):.*/\1/p' "$rules")}
bad=0 n=0
printf '%-24s %-16s %s\n' mutant "caught by" "first failing case"
for name in $names; do
	n=$((n + 1))
	if why=$(apply "$name"); then
		green
		case $? in
		0) who=SURVIVED why="all tests pass" bad=$((bad + 1)) ;;
		2) who="NO BUILD" why=$(cat "$work.log") bad=$((bad + 1)) ;;
		124) who="TIMED OUT" why="after 10 minutes" bad=$((bad + 1)) ;;
		*) why=$(grep -m 1 '^FAIL ' "$work.log")
		   who=$(grep -m 1 -E ' [1-9][0-9]* failed' "$work.log" | cut -d ' ' -f 1) ;;
		esac
	else
		who="NO RULE" bad=$((bad + 1))
	fi
	printf '%-24s %-16s %s\n' "$name" "$who" "$(echo "$why" | cut -c 1-120)"
	restore
done
echo "$n mutants, $bad not caught"
[ "$bad" -eq 0 ]
