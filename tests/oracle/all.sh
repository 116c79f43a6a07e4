#!/bin/sh
# Makes every golden anew in a scratch folder and compares it with the committed one.
# usage: tests/oracle/all.sh [--update]     PYTHON=python3 with the packages of tests/oracle/requirements.txt
# --update: puts the new ones in place of the committed (look at `git diff` before committing).
# A maker is a script that takes the folder standing for tests/golden and writes its own part of it.
PYTHON=${PYTHON:-python3}
cd "$(dirname "$0")/../.." || exit 2
new=$(mktemp -d) || exit 2
trap 'rm -rf "$new"' EXIT
"$PYTHON" -c 'import torch, transformers, tokenizers, sentencepiece, safetensors, PIL' 2>/dev/null || {
	echo "make oracle: $PYTHON lacks the packages of tests/oracle/requirements.txt (name another one: PYTHON=...)"
	exit 2
}
export TRANSFORMERS_VERBOSITY=error
bad=0
for maker in checkpoints fakereasoning_cases fakereasoning_wide demo image positions tokenizer torch_zip; do
	[ -f "tests/oracle/$maker.py" ] || continue
	echo "== $maker"
	"$PYTHON" "tests/oracle/$maker.py" "$new" || { echo "FAIL $maker.py"; bad=1; }
done
for part in "$new"/*; do
	name=$(basename "$part")
	if [ "$1" = "--update" ]; then
		rm -rf "tests/golden/$name" && cp -r "$part" "tests/golden/$name"
	else
		"$PYTHON" tests/oracle/compare.py "tests/golden/$name" "$part" || bad=1
	fi
done
exit $bad
