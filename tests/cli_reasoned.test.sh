#!/bin/sh
# Black-box tests of the command line with small checkpoints of FakeReasoning (tests/oracle/fakereasoning_cases.py): one
# whose text reaches its conclusion for every picture, one for some, one for none. All cases are exact/.
# usage: [PROGRAM=build/asan/fr-run] tests/cli_reasoned.test.sh   (after make; from the repository's root)
# shellcheck disable=SC2015,SC2154,SC2086,SC2016,SC2012
. tests/cli.sh

golden=$root/tests/golden/e2e
parts() { echo "-m $golden/$1/model --vision-tower $golden/$1/clip --dino $golden/$1/dino.pth"; }
all=$(parts fr-merged-f16)
some="$(parts fr-lora-safetensors) --base $golden/fr-lora-safetensors/base"
none=$(parts fr-bin-bf16)
cp "$images"/*.png . && n=$(ls ./*.png | wc -l)
one=wide.png
field() { sed "s/.*\"$1\":\\([^,}]*\\).*/\\1/" "$2"; } # KEY FILE: of the first object that has it

# ---- JSON ----
S='"([^"\\]|\\.)*"' N='-?[0-9][0-9.e+-]*'
line='"verdict":(null|"real"|"fake"),"p_fake":(null|'$N'),"p_fake_direct":'$N',"p_fake_reasoned":(null|'$N'),'
line=$line'"calibrated":(null|false),"logit_real":(null|'$N'),"logit_fake":(null|'$N'),"opening":null,"text":'$S','
line=$line'"text_verdict":("real"|"fake"|"unparsed"),"attributes":\{"lighting_and_shadows":(null|'$S'),"edges":(null|'$S'),'
line=$line'"texture":(null|'$S'),"image_quality":(null|'$S'),"semantic_rationality":(null|'$S')\},"stop":("eos"|"length"),'
line=$line'"tokens":\{"prompt":[0-9]+,"generated":[0-9]+\},"prompt":"A chat between a curious human '
for c in all some none; do
	eval "m=\$$c"
	code json/$c 0 $m -q --json --max-tokens 40 ./*.png
	is json/$c/form "$n of $n" "$(grep -cE "$line" out) of $(wc -l <out | tr -d ' ')"
	mv out $c.json
done
is json/all/scored "$n" "$(grep -c '"p_fake_reasoned":[0-9]' all.json)"
is json/all/no-warning 0 "$(grep -c '"warnings":\["' all.json)"
is json/none/scored 0 "$(grep -c '"p_fake_reasoned":[0-9]' none.json)"
is json/none/nulls "$n" "$(grep -c '"verdict":null,"p_fake":null,"p_fake_direct":0.*"calibrated":null,"logit_real":null' none.json)"
is json/none/warning "$n" "$(grep -c '"warnings":\["the text did not reach its conclusion.*p_fake_direct' none.json)"
scored=$(grep -c '"p_fake_reasoned":[0-9]' some.json)
[ "$scored" -gt 0 ] && [ "$scored" -lt "$n" ] && ok json/some || bad json/some "$scored of $n are scored"
is json/p-fake-is-reasoned "$(field p_fake all.json)" "$(field p_fake_reasoned all.json)"
has json/attributes '"attributes":{"lighting_and_shadows":"the light falls twice.","edges":null,' all.json
has json/text '"text":"<REASONING> Inconsistent Lighting and Shadows: the light falls twice.</REASONING><CONCLUSION> This' all.json

code json/verdict-only 0 $all -q --json --verdict-only ./*.png
is json/verdict-only/direct "$(field p_fake_direct all.json)" "$(field p_fake out)"
is json/verdict-only/form "$n" "$(grep -c '"p_fake_reasoned":null.*"text":null,"text_verdict":null,"attributes":null,"stop":"verdict"' out)"
code json/other-way 0 $some -q --json --max-tokens 40 --batch 3 -t 3 ./*.png
cmp -s out some.json && ok json/other-way/equal || bad json/other-way/equal "another batch, other bytes"
code json/sampled 0 $all -q --json --max-tokens 40 --temperature 0.2 --top-k 50 ./*.png
is json/sampled/direct "$(field p_fake_direct all.json)" "$(field p_fake_direct out)"
code json/authors 0 $some -q --json --max-tokens 40 --rule authors ./*.png
is json/authors/verdict "$(field text_verdict out | tr -d '"')" "$(field verdict out | sed 's/null/"unparsed"/' | tr -d '"')"
is json/authors/scores "$(field p_fake some.json)" "$(field p_fake out)"

# ---- where the encoder looked: DINOv2's map, which changes nothing else ----
code map 0 $all -q --json --max-tokens 40 --map maps ./*.png
is map/files "$n" "$(ls -A maps | wc -l | tr -d ' ')"
sed 's/"map":"[^"]*"/"map":null/' out | cmp -s - all.json && ok map/same-results || bad map/same-results "--map changes them"
has map/branch "dino, layer" "$(ls maps/wide-*.map.png)"
code map/other-way 0 $all -q --json --verdict-only --map other --batch 3 -t 3 ./*.png
diff -r maps other >/dev/null && ok map/same-bytes || bad map/same-bytes "threads, batch or text change a map"
code map/ref 0 $all -q --json --verdict-only --map ref --isa ref ./*.png
code map/exact 0 $all -q --json --verdict-only --map exact --isa "$exact" ./*.png
diff -r ref exact >/dev/null && ok map/same-at-levels || bad map/same-at-levels "ref and $exact differ"

# ---- the limit of tokens: before the conclusion, at its last token, behind it ----
whole=$(grep "$one" all.json)
at=$(printf "%s\n" "$whole" | sed 's/.*"generated":\([0-9]*\).*/\1/')
p=$(printf "%s\n" "$whole" | field p_fake -)
for left in 5 4 3 2; do # tokens of the whole answer
	code limit/$left 0 $all -q --json --max-tokens $((at - left)) $one
	case $(field text out) in
	*'This image is"') is limit/at-the-conclusion "$p" "$(field p_fake_reasoned out)" && hit=1 ;;
	*'This image"') is limit/before null "$(field p_fake_reasoned out)" ;;
	*'This image is fake'*) is limit/behind "$p" "$(field p_fake_reasoned out)" ;;
	esac
done
[ "${hit:-}" ] && ok limit/hit || bad limit/hit "no limit of tokens ended the text right at the conclusion"

# ---- CSV ----
code csv 0 $none -q --csv --max-tokens 4 $one
head -1 out >header
code csv/demo 0 -m demo -q --csv --max-tokens 4 $one
head -1 out | cmp -s - header && ok csv/header-of-all-models || bad csv/header-of-all-models "$(head -c 300 out)"
code csv/reasoned 0 $all -q --csv $one
has csv/reasoned/attribute ',fake,"the light falls twice.",,,,,eos,' out

# ---- lines for people ----
code human 0 $all $one
has human/head "wide.png   FAKE  P(fake) 0.55 uncalibrated, before reasoning 0.56" out
has human/reasoning "    Reasoning: Inconsistent Lighting and Shadows: the light falls twice." out
has human/conclusion "    Conclusion: This image is fake." out
is human/no-tags 0 "$(grep -c '<' out)"
code human/none 0 $none --max-tokens 4 ./*.png
has human/none/head "wide.png     NO VERDICT  P(fake) unknown, before reasoning 0.60" out
has human/none/warning "    warning: the text did not reach its conclusion" out
is human/none/once 0 "$(grep -c 'names no verdict' out)"
has human/none/table "wide.png    NO VERDICT        -  " out
has human/none/summary "0 fake, 0 real, $n without a score, $n without a verdict in the text" err
code human/greedy 0 $all --top-k 50 $one
has human/greedy/note "the text is greedy: --top-k and --top-p need a --temperature above 0" err
code human/sampled 0 $all --top-k 50 --temperature 0.2 $one
is human/sampled/none 0 "$(grep -c greedy err)"
code human/verdict-only 0 $all -q --verdict-only $one
has human/verdict-only/head "wide.png   FAKE  P(fake) 0.56 uncalibrated, before reasoning" out
code human/authors 0 $all -q --rule authors $one
has human/authors/verdict "    verdict by the authors' rule: FAKE" out
code exit-verdict/none 0 $none -q --exit-verdict --max-tokens 4 $one
code exit-verdict/fake 10 $all -q --exit-verdict $one

# On a terminal the score comes after the text.
if script -qec true /dev/null >/dev/null 2>&1; then
	TERM=xterm NO_COLOR=1 script -qec "stty cols 80; $run $all -q $one" typescript >/dev/null 2>&1
	tr -d '\r' <typescript | sed "s/$(printf '\033')\[[0-9;]*[mK]//g" | grep -v '^Script ' >shown
	is terminal/order "wide.png|    Reasoning: Inconsistent Lighting and Shadows: the light falls twice.|    Conclusion: This image \
is fake.|    FAKE  P(fake) 0.55 uncalibrated, before reasoning 0.56" "$(grep . shown | paste -sd '|' -)"
else
	skip terminal "no script(1) that makes a terminal"
fi

# ---- prompts ----
says prompt/twice 2 "2 times, expected once" $all --prompt "<image> or <image>?" $one
says prompt/long 2 "expected at most the 2048" $all --prompt "$(printf 'fake %.0s' $(seq 700))$(printf 'fake %.0s' $(seq 1400))" $one
says prompt/chat 2 "--chat: 'vicuna' is not one of raw|llava|llava_v1" $all --chat vicuna $one
code prompt/own 0 $all -q --json --verdict-only --chat raw --prompt "Is it?" $one
has prompt/own/fields '"prompt":"<image>\nIs it?","chat":"raw"' out

exit $failed
