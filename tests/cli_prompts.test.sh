#!/bin/sh
# Black-box tests of --prompt given several times: a result for each image and prompt, in that order, each the line of a
# run with that prompt alone. All cases are exact/.
# usage: [PROGRAM=build/asan/fr-run] tests/cli_prompts.test.sh   (after make; from the repository's root)
# shellcheck disable=SC2015,SC2154
. tests/cli.sh

first="Is this image real?" second="Look at the hands. Is this image real?" third="<image> Real or fake, and why?"
mkdir tree && cp "$images"/square.png "$images"/tall.png "$images"/wide.png tree && echo 'no image' >broken.png
every() { awk "NR % 3 == $1" "$2"; } # REMAINDER FILE: the lines of one of three prompts

# ---- lines ----
for n in 1 2 3; do
	eval "prompt=\$$(echo first second third | cut -d' ' -f$n)"
	"$run" -m demo -q --json --max-tokens 9 --prompt "$prompt" tree broken.png >"alone.$n" 2>err
	is "json/alone/$n" 1 $?
done
for way in "" "--batch 1" "--batch 2 -t 2" "--batch 7 -t 3" "--speculate 5"; do
	# shellcheck disable=SC2086
	code "json/$way" 1 -m demo -q --json --max-tokens 9 --prompt "$first" --prompt="$second" --prompt "$third" $way \
		tree broken.png
	is "json/$way/lines" 12 "$(wc -l <out)"
	for n in 1 2 3; do
		every $((n % 3)) out >part && cmp -s part "alone.$n" && ok "json/$way/as-alone/$n" ||
			bad "json/$way/as-alone/$n" "$(diff part "alone.$n" | head -c 600)"
	done
done
is json/order "square square square tall tall tall wide wide wide broken broken broken" \
	"$(sed 's/.*"image":"\([^"]*\)\.png".*/\1/; s/.*\///' out | xargs)"
code verdict-only 0 -m demo -q --json --verdict-only --prompt "$first" --prompt "$second" tree
is verdict-only/same-score "$(sed 's/.*"p_fake":\([^,]*\),.*/\1/' alone.1 | head -3)" \
	"$(awk 'NR % 2' out | sed 's/.*"p_fake":\([^,]*\),.*/\1/')"
code timings 0 -m demo -q --json --timings --verdict-only --prompt "$first" --prompt "$second" tree/wide.png
grep -q '"ms":{"image":0,' out && [ "$(grep -c '"vision":0,' out)" -eq 1 ] && head -1 out | grep -q '"vision":[1-9]' &&
	ok timings/once || bad timings/once "$(cat out)"
code csv 1 -m demo -q --csv --verdict-only --prompt "$first" --prompt "$second" tree broken.png
is csv/lines 8 "$(grep -c "^Look\|^Is this" out)"
code exit-verdict 10 -m "$root/tests/golden/e2e/old-f32/model" -q --verdict-only --threshold 1e-9 --exit-verdict \
	--prompt "$first" --prompt "$second" tree

# ---- for people ----
code human 1 -m demo --max-tokens 4 --prompt "$first" --prompt "$second" tree broken.png
is human/asked 6 "$(grep -c "^    asked: " out)"
has human/question "    asked: $second" out
is human/error-once 2 "$(grep -c "ERROR" out)" # and in the table
has human/table "tree/square.png, prompt 2  DEMO" out
has human/end "4 images, 2 prompts each, in " err
has human/failed ", 1 failed" err
grep -q "broken.png, prompt" out && bad human/error-unnumbered "$(tail -3 out)" || ok human/error-unnumbered
code human/one 0 -m demo -q --max-tokens 4 --prompt "$first" tree
grep -q "asked:\|, prompt 1" out && bad human/one/not-named "$(cat out)" || ok human/one/not-named
code human/verdict-only 0 -m demo -q --verdict-only --prompt "$first" --prompt "$second" tree
is human/verdict-only/lines 12 "$(wc -l <out)"

# ---- maps ----
code map/alone 0 -m demo -q --json --verdict-only --map alone tree
code map 0 -m demo -q --json --max-tokens 3 --map maps --prompt "$first" --prompt "$second" --batch 3 tree
diff -r alone maps >/dev/null && ok map/one-an-image || bad map/one-an-image "$(ls alone maps)"
is map/named 6 "$(grep -c '"map":"maps/' out)"
is map/same 3 "$(sed 's/.*"map":"\([^"]*\)".*/\1/' out | uniq | wc -l | tr -d ' ')"

# ---- where prompts come from, and those that cannot be asked ----
FR_RUN_PROMPT=$first
export FR_RUN_PROMPT
code env 0 -m demo -q --json --verdict-only tree/wide.png
has env/prompt "\"prompt\":\"<image>\\n$first\"" out
code env/line-wins 0 -m demo -q --json --verdict-only --prompt "$second" tree/wide.png
is env/line-wins/one 1 "$(wc -l <out)"
has env/line-wins/prompt "\"prompt\":\"<image>\\n$second\"" out
unset FR_RUN_PROMPT
code empty 0 -m demo -q --json --verdict-only --prompt '' --prompt "$first" tree/wide.png
has empty/prompt '"prompt":"<image>\n","chat"' out
says same 2 "prompt 2 ('$first'): is the same as prompt 1" -m demo -q --prompt "$first" --prompt "$first" tree
says two-images 2 "prompt 2 ('<image><image>'): the prompt holds the image token" -m demo -q --prompt "$first" \
	--prompt '<image><image>' tree
says long 2 "): the prompt takes " -m demo -q --prompt "$first" --prompt "$(seq -s ' ' 2000)" tree
says dump 2 "a dump is of one prompt, the session has 2" dump -q -m demo --prompt "$first" --prompt "$second" \
	tree/wide.png -o x.safetensors
[ -e x.safetensors ] && bad dump/no-file "it is there" || ok dump/no-file
code info 0 info demo --prompt "$first" --prompt "$second"
exit $failed
