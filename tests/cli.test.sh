#!/bin/sh
# Black-box tests of the command line with the demo model: the contract of docs/DESIGN.md, word by word. All cases are
# exact/. usage: [PROGRAM=build/asan/fr-run] [B=build/asan] tests/cli.test.sh   (after make; from the repository's root)
# shellcheck disable=SC2015,SC2317,SC2012,SC2010,SC2016,SC2089,SC2090,SC2086,SC2002
#   `cond && ok || bad` is meant: ok cannot fail; names here need no quoting; wait_for calls by name
. tests/cli.sh

one=$images/square.png
mkdir tree && cp "$images"/*.png tree/ && n_tree=$(ls tree | wc -l)

# ---- usage ----
"$run" >out 2>err </dev/null
is usage/nothing/code 2 $?
has usage/nothing/says "usage: fr-run" err
says usage/unknown 2 "unknown option --jsn (did you mean --json?)" --jsn x.png
says usage/unknown-short 2 "unknown option -X" -X x.png
says usage/missing-value 2 "--threshold needs a value" x.png --threshold
says usage/no-value-taken 2 "--json takes no value" --json=1 x.png
says usage/range 2 "--threshold: '1.5' is not a number" --threshold 1.5 x.png
says usage/not-a-number 2 "-t: '2x' is not a whole number" -t 2x x.png
says usage/negative 2 "--max-tokens: '-1'" --max-tokens -1 x.png
says usage/nan 2 "--temperature: 'nan'" --temperature nan x.png
says usage/choice 2 "--kv: 'f64' is not one of f16|f32" --kv f64 x.png
says usage/band 2 "--band: '0.6,0.4'" --band 0.6,0.4 x.png
says usage/other-command 2 "--rel has no meaning for \`check\`" --rel 1 x.png
says usage/json-and-csv 2 "--json and --csv exclude each other" --json --csv x.png
says usage/no-image 2 "no image given" -m demo
says usage/stdin-twice 2 "stdin ('-') can be read once" -m demo - --files-from -
says usage/null-alone 2 "--files-from" -m demo -0 x.png
says usage/list-missing 2 "no-list: the list of paths cannot be read" -m demo --files-from no-list
says usage/exit-verdict-demo 2 "--exit-verdict: the demo model" -m demo --exit-verdict "$one"
says usage/rule-needs-text 2 "authors" -m demo --rule authors --verdict-only "$one"
says usage/prompt-two-images 2 "image token" -m demo -q --prompt '<image><image>' "$one"
says usage/output-dir-missing 2 "cannot be made" -m demo -q -o no/such/dir/x "$one"
says usage/tokenize-two-texts 2 "one TEXT expected" tokenize demo a b
says usage/diff-one 2 "two dumps expected" diff a
says usage/dump-no-output 2 "-o OUT.safetensors" dump -m demo "$one"
says usage/bench 2 "peak, kernels or model expected" bench x
says usage/bench-plot 2 "kernels and model have" bench peak --svg none.svg
says usage/bench-sweep 2 "rows for --sweep" bench model -m demo --sweep
says usage/bench-svg 3 "cannot be written" bench model -m demo --svg no/such/a.svg
says usage/selftest 2 "takes no arguments" selftest x
says usage/help-of-nothing 2 "no command 'nothing'" help nothing
says usage/speculate 2 "--speculate: '16' is not auto, off or a whole number from 1 to 15" -m demo --speculate 16 "$one"
says usage/speculate-word 2 "--speculate: 'on'" -m demo --speculate on "$one"
says usage/empty-choice 2 "--kv: ''" --kv= x.png

# ---- model and device ----
says model/none 3 "-m DIR" "$one"
for word in "-m demo" "huggingface.co/lingcco/fakeVLM" "FR_RUN_MODEL"; do has "model/none/$word" "$word" err; done
says model/missing 3 "no-such-dir" -m no-such-dir "$one"
says model/no-config 3 "config.json" -m tree "$one"
says model/backend-absent 3 "backend cuda" -m demo --backend cuda "$one"
"$run" --version | grep -q '^backends: cpu, cuda (sm_.*nvcc [0-9.]*)$' && built=1 || built=0
[ $built = 0 ] && is model/cuda-not-built "backends: cpu" "$("$run" --version | grep '^backends')"
[ $built = 0 ] && has model/backend-absent/why "is not built into this fr-run" err
[ $built = 1 ] && { grep -qE "needs an NVIDIA driver, and there is none: libcuda.so.1|finds no GPU|driver does not start" err &&
	ok model/backend-absent/why || bad model/backend-absent/why "$(cat err)"; }
[ $built = 1 ] && says model/cuda-has-no-isa 2 "--isa avx2" -m demo --backend cuda --isa avx2 "$one"
export FR_RUN_CUDA_DEVICE=x
[ $built = 1 ] && says model/cuda-device 2 "FR_RUN_CUDA_DEVICE: 'x'" -m demo --backend cuda "$one"
unset FR_RUN_CUDA_DEVICE
code model/auto 0 -m demo --json -v --verdict-only --backend auto "$one"
has model/auto/cpu '"backend":"cpu"' out
has model/auto/why "on the CPU: backend cuda" err
"$run" --version | grep -q 'levels.*amx' && skip model/isa-absent "this CPU has amx" ||
	says model/isa-absent 3 "amx" -m demo --isa amx "$one"
best=$("$run" --version | sed -n 's/^machine: .*, in use \([a-z0-9]*\).*/\1/p')
code model/isa-best 0 -m demo -q --json --verdict-only --backend cpu "$one"
has model/isa-best/named "\"isa\":\"$best\"" out
export FR_RUN_ISA=ref
code model/isa-environment 0 -m demo -q --json --verdict-only "$one"
has model/isa-environment/named '"isa":"ref","kv":"f16","activations":"f32"' out
code model/isa-info 0 info demo
has model/isa-info/named "engine       ref ref, activations f32, KV cache f16" out
has model/isa-info/best "in use ref" out
code model/isa-version 0 --version
has model/isa-version/named "in use ref" out
unset FR_RUN_ISA
says model/draft-from-missing 3 "no-texts: cannot be opened" -m demo --draft-from no-texts "$one"
echo '{"text":' >cut.jsonl
says model/draft-from-cut 3 "cut.jsonl, line 1: begins with '{', but is no JSON object" -m demo --draft-from cut.jsonl "$one"
rm cut.jsonl
mkdir broken && cp "$demo"/* broken/ && echo '{' >broken/config.json
says model/broken-config 3 "config.json" -m broken "$one"
cp "$demo"/config.json broken/ && head -c 100 "$demo"/model.safetensors >broken/model.safetensors
says model/broken-weights 3 "model.safetensors" -m broken "$one"
cp "$demo"/model.safetensors broken/ && rm broken/tokenizer.model
says model/no-tokenizer 3 "tokenizer" -m broken "$one"
rm -r broken

# ---- results for people ----
code human/one 0 -m demo --max-tokens 8 "$one"
grep -qE '^[^ ]*square\.png +DEMO (FAKE|REAL) +P\(fake\) [<>0]\.?[0-9.]+ uncalibrated$' out && ok human/line ||
	bad human/line "$(head -1 out)"
has human/demo-notice "DEMO" err
is human/one-has-no-table 0 "$(grep -c '^image ' out)"
code human/several 0 -m demo --max-tokens 4 tree
is human/table "$n_tree" "$(sed -n '/^image /,$p' out | grep -c '^tree/.*DEMO')"
grep -q "^$n_tree images in [0-9.]* s: [0-9]* fake, [0-9]* real" err && ok human/counts || bad human/counts "$(cat err)"
code human/verdict-only 0 -m demo --verdict-only tree
is human/verdict-only/lines "$n_tree" "$(wc -l <out)"
is human/verdict-only/each "$n_tree" \
	"$(grep -cE '^tree/[a-z]+\.png +DEMO (FAKE|REAL) +P\(fake\) [<>0.0-9]+ uncalibrated' out)"
code human/quiet 0 -m demo -q --verdict-only "$one"
is human/quiet/stderr "" "$(cat err)"
code human/inconclusive 0 -m demo -q --verdict-only --band 0,1 "$one"
has human/inconclusive/word "DEMO INCONCLUSIVE" out
code human/authors 0 -m demo -q --rule authors --max-tokens 2 "$one"
has human/authors/line "verdict by the authors' rule: " out
code human/timings 0 -m demo -q --timings --max-tokens 2 "$one"
grep -q 'image [0-9]* ms, vision [0-9]* ms, prefill of [0-9]* tokens [0-9]* ms' out && ok human/timings/line ||
	bad human/timings/line "$(cat out)"
code human/verbose 0 -m demo -v --max-tokens 2 "$one"
has human/verbose/plan "kv.k" err
code human/speculate 0 -m demo -v --max-tokens 6 --speculate 4 tree
grep -qE '^text: [0-9.]+ tokens a step of an image; [0-9]+ of [0-9]+ tokens proposed ahead were right' err &&
	ok human/speculate/line || bad human/speculate/line "$(tail -3 err)"
code human/color-always 0 -m demo -q --verdict-only --color always "$one"
is human/color-always/sgr 1 "$(grep -c "$(printf '\033\\[')" out)"
code human/color-auto-off 0 -m demo -q --verdict-only "$one"
is human/color-auto-off/sgr 0 "$(grep -c "$(printf '\033')" out)"

# ---- JSON: every key, in order, always ----
S='"([^"\\]|\\.)*"' N='-?[0-9][0-9.e+-]*'
line='^\{"schema":1,"image":'$S',"image_hex":(null|"([0-9a-f]{2})+"),"sha256":(null|"[0-9a-f]{64}"),'
line=$line'"verdict":(null|"real"|"fake"|"inconclusive"),"p_fake":(null|'$N'),"p_fake_direct":null,'
line=$line'"p_fake_reasoned":null,"calibrated":(null|true|false),"logit_real":(null|'$N'),"logit_fake":(null|'$N'),'
line=$line'"opening":(null|"own"|"forced"),"text":(null|'$S'),"text_verdict":(null|"real"|"fake"|"unparsed"),'
line=$line'"attributes":null,"stop":(null|"eos"|"length"|"verdict"),'
line=$line'"tokens":(null|\{"prompt":[0-9]+,"generated":[0-9]+\}),"prompt":'$S',"chat":'$S',"preprocess":'$S','
line=$line'"sampler":\{"temperature":'$N',"top_k":[0-9]+,"top_p":'$N',"seed":[0-9]+\},'
line=$line'"model":\{"name":'$S',"hash":"[0-9a-f]{64}","dtype":"(bf16|f16|f32|mixed)","demo":(true|false)\},'
line=$line'"calibration":(null|"[0-9a-f]{64}"),'
line=$line'"engine":\{"version":'$S',"backend":'$S',"isa":'$S',"kv":"f(16|32)","activations":'$S'\},'
line=$line'"map":(null|'$S'),"warnings":\[('$S'(,'$S')*)?\],"error":(null|\{"code":'$S',"message":'$S'\})'
all_lines() { # NAME COUNT FILE [TAIL]: every line has the form, and there are COUNT
	is "$1" "$2 of $2" "$(grep -cE "$line${4:-}"'\}$' "$3") of $(wc -l <"$3" | tr -d ' ')"
}
code json/several 0 -m demo -q --json --max-tokens 6 tree
all_lines json/form "$n_tree" out
cp out plain
code json/again 0 -m demo -q --json --max-tokens 6 tree -t 1 --batch 3
cmp -s out plain && ok json/equal-work-equal-bytes || bad json/equal-work-equal-bytes "another batch, other bytes"
code json/speculate 0 -m demo -q --json --max-tokens 6 tree --speculate 15 --draft-from plain
cmp -s out plain && ok json/speculate/equal-bytes || bad json/speculate/equal-bytes "proposed tokens, other bytes"
code json/speculate/off 0 -m demo -v --json --max-tokens 6 tree --speculate off
cmp -s out plain && ok json/speculate/off/equal-bytes || bad json/speculate/off/equal-bytes "no proposals, other bytes"
is json/speculate/off/says-nothing 0 "$(grep -c 'proposed ahead' err)"
code json/timings 0 -m demo -q --json --timings --max-tokens 6 "$one"
all_lines json/timings/form 1 out ',"ms":\{"image":'$N',"vision":'$N',"prefill":'$N',"decode":'$N'\}'
code json/verdict-only 0 -m demo -q --json --verdict-only "$one"
has json/verdict-only/nulls '"text":null,"text_verdict":null,"attributes":null,"stop":"verdict"' out
has json/demo '"demo":true' out
sed 's/.*"p_fake":\([^,]*\),.*/\1/' out >p
code json/text-same-score 0 -m demo -q --json --max-tokens 6 "$one"
is json/text-same-score/bits "$(cat p)" "$(sed 's/.*"p_fake":\([^,]*\),.*/\1/' out)"
is json/sha256 "$(sha256sum <"$one" | cut -d' ' -f1)" "$(sed 's/.*"sha256":"\([^"]*\)".*/\1/' out)"
code json/error 1 -m demo -q --json no-such.png
all_lines json/error/form 1 out
has json/error/nulls '"sha256":null,"verdict":null,"p_fake":null' out
has json/error/code '"error":{"code":"io","message":"no-such.png: cannot be opened (No such file or directory)"}' out
code json/sampler 0 -m demo -q --json --max-tokens 3 \
	--temperature 0.5 --top-k 7 --top-p 0.75 --seed 18446744073709551615 "$one"
has json/sampler/fields '"sampler":{"temperature":0.5,"top_k":7,"top_p":0.75,"seed":18446744073709551615}' out
code json/kv 0 -m demo -q --json --verdict-only --kv f32 --isa ref "$one"
has json/kv/fields '"isa":"ref","kv":"f32"' out
code json/prompt 0 -m demo -q --json --verdict-only --prompt 'Is it "real"?' "$one"
has json/prompt/fields '"prompt":"<image>\nIs it \"real\"?","chat":"raw"' out
code json/chat 0 -m demo -q --json --verdict-only --chat llava "$one"
has json/chat/fields '"prompt":"USER: <image>\n' out
code json/threshold 0 -m demo -q --json --verdict-only --threshold 1e-9 "$one"
has json/threshold/low '"verdict":"fake"' out
code json/threshold-high 0 -m demo -q --json --verdict-only --threshold 1 "$one"
has json/threshold/high '"verdict":"real"' out
code json/band 0 -m demo -q --json --verdict-only --band 0,1 "$one"
has json/band/word '"verdict":"inconclusive"' out

# ---- CSV ----
code csv/several 1 -m demo -q --csv --verdict-only tree no-such.png 'no "such", file'
is csv/lines $((n_tree + 3)) "$(grep -c "$(printf '\r$')" out)"
columns=$(head -1 out | tr -d '\r' | tr ',' '\n' | wc -l)
is csv/columns 43 "$columns"
has csv/header "schema,image,image_hex,sha256,verdict,p_fake,p_fake_direct,p_fake_reasoned,calibrated," out
has csv/attributes ",text_verdict,attributes_lighting_and_shadows,attributes_edges,attributes_texture,attributes_image_quality,attributes_semantic_rationality,stop," out
has csv/quotes '1,"no ""such"", file",' out
code csv/newline 0 -m demo -q --csv --verdict-only "$one"
is csv/newline/quoted 1 "$(grep -c '"<image>$' out)"

# ---- which images ----
mkdir -p t/b t/a.dir t/.hidden t/empty && cp "$one" t/b/1.png && cp "$one" t/a.dir/2.png && cp "$one" t/a-1.png &&
	cp "$one" t/.hidden/3.png && cp "$one" t/.4.png && echo text >t/notes.txt && : >t/nothing && ln -s ../tree t/linked &&
	ln -s a-1.png t/link.png && mkfifo t/fifo
code inputs/folder 0 -m demo --json --verdict-only t
is inputs/folder/order "t/a-1.png t/a.dir/2.png t/b/1.png t/link.png" \
	"$(sed 's/.*"image":"\([^"]*\)".*/\1/' out | tr '\n' ' ' | sed 's/ $//')"
has inputs/folder/others "3 other files" err
code inputs/slash 0 -m demo -q --json --verdict-only t/b/
has inputs/slash/path '"image":"t/b/1.png"' out
code inputs/no-images 1 -m demo -q --json t/empty
has inputs/no-images/error 't/empty: no image in this folder' out
mkdir only-text && echo hello >only-text/a.txt
code inputs/only-text 1 -m demo -q only-text
has inputs/only-text/error 'no image in this folder (other files: 1)' out
code inputs/named-text 1 -m demo -q --json t/notes.txt "$one"
is inputs/named-text/goes-on 1 "$(grep -c '"error":null' out)"
has inputs/named-text/code '"error":{"code":"format"' out
code inputs/empty-file 1 -m demo -q --json t/nothing
has inputs/empty-file/error '"error":{"code":"format","message":"the file is empty' out
head -c 2000 "$images"/edge.png >cut.png
code inputs/truncated 1 -m demo -q --json cut.png
has inputs/truncated/code '"error":{"code":"damaged"' out
code inputs/limit 1 -m demo -q --json --max-pixels 100 "$one"
has inputs/limit/code '"error":{"code":"limit"' out
"$run" -m demo -q --json --verdict-only - <"$one" >out 2>err
is inputs/stdin/code 0 $?
has inputs/stdin/name '"image":"-"' out
cat "$one" | "$run" -m demo -q --json --verdict-only - >out
all_lines inputs/stdin/pipe 1 out
printf '%s\n\n%s\n' "$one" tree | "$run" -m demo -q --json --verdict-only --files-from - >out
all_lines inputs/list $((n_tree + 1)) out
printf '%s\0tree\0' "$one" >list && code inputs/list-null 0 -m demo -q --json --verdict-only -0 --files-from list
all_lines inputs/list-null/form $((n_tree + 1)) out
code inputs/unreadable 1 -m demo -q --json /proc/self/mem # opens, and reads fail: for root as for others
has inputs/unreadable/error '"error":{"code":"io","message":"/proc/self/mem: cannot be read (Input/output error)"}' out
printf '%s\0%s\n' "$one" tree >list
code inputs/list-of-nul 1 -m demo -q --json --verdict-only --files-from list
has inputs/list-of-nul/hint "--null" out
"$run" -m demo -q --json --verdict-only "$one" >&- 2>err
is inputs/closed-stdout 3 $?
cp "$one" -- -dash.png && code inputs/dash 0 -m demo -q --json --verdict-only -- -dash.png
has inputs/dash/path '"image":"-dash.png"' out
cp "$one" info && code inputs/named-as-command 0 -m demo -q --json --verdict-only -- info
code inputs/check-info 0 check -m demo -q --json --verdict-only info
has inputs/check-info/path '"image":"info"' out
code inputs/any-order 0 "$one" -q --verdict-only --json -mdemo
code inputs/equals 0 "$one" -q --verdict-only --json --model=demo

# ---- names ----
mkdir names
cp "$one" "names/with space.png"
cp "$one" "names/$(printf 'new\nline.png')"
cp "$one" "names/$(printf 'bad\377.png')"
cp "$one" "names/$(printf 'esc\033[31m.png')"
cp "$one" "names/$(printf 'rtl\342\200\256gnp.png')"
code names/json 0 -m demo -q --json --verdict-only names
all_lines names/json/form 5 out
has names/newline '"image":"names/new\nline.png","image_hex":null' out
has names/not-utf8 "$(printf '"image":"names/bad\357\277\275.png","image_hex":"6e616d65732f626164ff2e706e67"')" out
has names/escape '"image":"names/esc\u001b[31m.png"' out
code names/human 0 -m demo -q --verdict-only names
is names/human/lines 5 "$(wc -l <out)"
has names/human/newline 'names/new\x0Aline.png' out
has names/human/not-utf8 'names/bad\xFF.png' out
has names/human/escape 'names/esc\x1B[31m.png' out
has names/human/bidi 'names/rtl\xE2\x80\xAEgnp.png' out

# ---- a model that is a folder: --exit-verdict, calibration; a copy of the demo model stays DEMO by its mark ----
code dir/demo-copy 0 -m "$demo" --verdict-only -q "$one"
has dir/demo-copy/mark DEMO out
code dir/demo-copy/exit-verdict 2 -m "$demo" -q --exit-verdict "$one"
cp -r "$demo" unmarked && grep -v fr_run_demo "$demo"/config.json >unmarked/config.json
code dir/human 0 -m unmarked --verdict-only -q "$one"
is dir/no-demo 0 "$(grep -c DEMO out)"
code dir/exit-fake 10 -m unmarked -q --verdict-only --exit-verdict --threshold 1e-9 "$one" no-such.png
code dir/exit-real 0 -m unmarked -q --verdict-only --exit-verdict --threshold 1 "$one"
hash=$("$run" -m unmarked -q --json --verdict-only "$one" | sed 's/.*"hash":"\([0-9a-f]*\)".*/\1/')
echo "{\"schema\":1,\"model_hash\":\"$hash\",\"temperature\":2.5,\"bias\":0.25}" >cal.json
code dir/calibrated 0 -m unmarked -q --json --verdict-only --calibration cal.json "$one"
has dir/calibrated/field '"calibrated":true' out
has dir/calibrated/hash "\"calibration\":\"$(sha256sum <cal.json | cut -d' ' -f1)\"" out
code dir/calibrated-human 0 -m unmarked -q --verdict-only --calibration cal.json "$one"
grep -q 'P(fake) [<>.0-9]* calibrated' out && ok dir/calibrated/word || bad dir/calibrated/word "$(cat out)"
sed "s/$hash/$(printf '%064d' 0)/" cal.json >other.json
says dir/calibration-of-other 3 "fitted for weights" -m unmarked -q --calibration other.json "$one"
says dir/calibration-demo 2 "demo" -m demo -q --calibration cal.json "$one"

# ---- environment ----
FR_RUN_MODEL=demo FR_RUN_JSON=1 FR_RUN_VERDICT_ONLY=1 FR_RUN_QUIET=1 FR_RUN_THRESHOLD=1 "$run" "$one" >out 2>err
is env/code 0 $?
all_lines env/json 1 out
has env/threshold '"verdict":"real"' out
FR_RUN_MODEL=demo FR_RUN_JSON=1 FR_RUN_THRESHOLD=1 "$run" -q --verdict-only --threshold 1e-9 "$one" >out
has env/line-wins '"verdict":"fake"' out
FR_RUN_JSON=1 "$run" -m demo -q --verdict-only --csv "$one" | head -1 | grep -q '^schema,' && ok env/line-beats-json ||
	bad env/line-beats-json ""
FR_RUN_JSON=0 "$run" -m demo -q --verdict-only "$one" | grep -q '^{' && bad env/zero-is-off "" || ok env/zero-is-off
FR_RUN_THREADS=many "$run" -m demo "$one" >out 2>err
is env/bad/code 2 $?
has env/bad/names "FR_RUN_THREADS: 'many'" err
FR_RUN_REL=x "$run" -m demo -q --verdict-only "$one" >/dev/null 2>&1
is env/of-another-command 0 $?
NO_COLOR=1 TERM=xterm "$run" -m demo -q --verdict-only --color always "$one" | grep -q "$(printf '\033')" &&
	ok env/no-color-is-overruled || bad env/no-color-is-overruled ""

# ---- -o ----
echo old >result.json
code output/file 0 -m demo -q --json --verdict-only -o result.json tree
is output/file/stdout "" "$(cat out)"
all_lines output/file/form "$n_tree" result.json
code output/dash 0 -m demo -q --json --verdict-only -o - "$one"
all_lines output/dash/form 1 out
code output/device 0 -m demo -q --json --verdict-only -o /dev/null "$one"
[ -c /dev/null ] && ok output/device/stays || bad output/device/stays "/dev/null is no device any more"
echo old >target && ln -s target link && code output/link 0 -m demo -q --json --verdict-only -o link "$one"
[ -L link ] && all_lines output/link/target 1 target || bad output/link/target "the link is gone"
echo old >kept && "$run" -m demo -q --json --isa amx -o kept no 2>/dev/null >&2
is output/kept-on-error old "$(head -c 3 kept)"
is output/nothing-left "" "$(ls | grep partial)"
if [ -w /dev/full ]; then
	"$run" -m demo -q --json --verdict-only "$one" >/dev/full 2>err
	is output/full/code 3 $?
	has output/full/says "cannot be written" err
else
	skip output/full "no /dev/full"
fi

# ---- maps of where the encoder looked ----
short=$(sha256sum <"$one" | cut -c1-8)
drop_map() { sed 's/"map":\(null\|"[^"]*"\),//' "$1"; }
code map/one 0 -m demo -q --json --max-tokens 6 --map maps "$one"
all_lines map/form 1 out
has map/key "\"map\":\"maps/square-$short.map.png\",\"warnings\"" out
png=maps/square-$short.map.png
is map/files "square-$short.map.png" "$(ls -A maps)"
is map/png "$(printf '\211PNG')" "$(head -c 4 "$png")"
for word in "Where the encoder looked" "not the forged region; attention is weak evidence" "$(sha256sum <"$one" | cut -d' ' -f1)"; do
	has "map/text/$word" "$word" "$png"
done
drop_map out >with
code map/without 0 -m demo -q --json --max-tokens 6 "$one"
has map/without/null '"map":null,"warnings"' out
drop_map out | cmp -s - with && ok map/same-result || bad map/same-result "--map changes the result"
code map/several 1 -m demo -q --json --max-tokens 3 --map many/ -t 1 tree no-such.png
is map/several/files "$n_tree" "$(ls -A many | wc -l | tr -d ' ')"
has map/several/slash '"map":"many/' out
is map/several/error-has-none 1 "$(grep no-such.png out | grep -c '"map":null')"
code map/batch 0 -m demo -q --json --verdict-only --map batch -t 2 --batch 3 tree
diff -r many batch >/dev/null && ok map/same-bytes || bad map/same-bytes "threads or batch change a map"
code map/ref 0 -m demo -q --json --verdict-only --map ref --isa ref tree
code map/exact 0 -m demo -q --json --verdict-only --map exact --isa "$exact" tree
diff -r ref exact >/dev/null && ok map/same-at-levels || bad map/same-at-levels "ref and $exact differ"
mkdir left && sh -c 'touch left/.$$.1.map.partial && exec "$@"' sh "$run" -m demo -q --verdict-only --map left "$one" \
	>out 2>err
is map/left-over-of-a-killed-run "square-$short.map.png" "$(ls left)"
cp "$png" first && code map/again 0 -m demo -q --verdict-only --map maps "$one" "$one"
is map/again/one-file "square-$short.map.png" "$(ls -A maps)"
cmp -s first "$png" && ok map/again/same-bytes || bad map/again/same-bytes ""
has map/human "where the encoder looked: $png" out
echo mine >"$png" && code map/taken 0 -m demo -q --csv --verdict-only --map maps "$one"
is map/taken/kept mine "$(cat "$png")"
has map/taken/other "maps/square-$short-2.map.png" out
cmp -s first "maps/square-$short-2.map.png" && ok map/taken/same-bytes || bad map/taken/same-bytes ""
rm "$png" && ln -s nowhere "$png" && code map/link 0 -m demo -q --verdict-only --map maps "$one"
[ -L "$png" ] && [ ! -e maps/nowhere ] && ok map/link/not-followed || bad map/link/not-followed "$(ls maps)"
"$run" -m demo -q --verdict-only --map maps - <"$one" >out
has map/stdin "maps/stdin-$short.map.png" out
mkdir odd && cp "$one" odd/-x.png && cp "$one" "odd/$(printf 'a\033b\nc.tar.png')" && cp "$one" odd/..png
cp "$one" "odd/$(printf '%0250d' 7).png"
code map/odd 0 -m demo -q --json --verdict-only --map odd-maps odd/-x.png odd/a* odd/..png odd/0* odd/../odd/-x.png
is map/odd/names "_-$short.map.png _x-$short.map.png a_b_c.tar-$short.map.png" \
	"$(ls -A odd-maps | grep -v ^0 | tr '\n' ' ' | sed 's/ $//')"
is map/odd/long 4 "$(ls -A odd-maps | wc -l | tr -d ' ')"
says map/no-parent 3 "--map no/such: the folder cannot be made (No such file or directory)" \
	-m demo -q --map no/such "$one"
says map/file 3 "--map list: cannot be opened as a folder (Not a directory)" -m demo -q --map list "$one"
says map/unwritable 3 "--map /proc: no map can be written there" -m demo -q --map /proc "$one"
says map/empty 3 "the folder cannot be made" -m demo -q --map= "$one"
says map/model-first 3 "no-such-dir" -m no-such-dir -q --map new "$one"
[ ! -e new ] && ok map/nothing-left || bad map/nothing-left "an empty folder was left"
code map/usage 2 dump -m demo -q --map new "$one" -o x
mkdir away && (
	endless() { yes "$one"; }
	endless | "$run" -m demo -q --json --verdict-only --map away --files-from - >gone 2>err
	echo $? >code
) &
wait_for lines_at_least 2 gone
rm -r away
wait $!
is map/folder-gone/code 3 "$(cat code)"
is map/folder-gone/one-sentence 1 "$(wc -l <err | tr -d ' ')"
has map/folder-gone/says "--map away: a map cannot be written" err
all_lines map/folder-gone/complete "$(wc -l <gone | tr -d ' ')" gone

# ---- signals. An endless list of images; `env` gives a background job its SIGINT back. ----
endless() { yes "$one"; }
free="env --default-signal=INT,PIPE"
endless | $free "$run" -m demo -q --json --max-tokens 5 --files-from - -o stream.json >/dev/null 2>err &
pid=$!
wait_for lines_at_least 3 'stream.json.*.partial' || bad signals/int/starts "no result in 20 s"
[ ! -e stream.json ] && ok signals/int/not-yet-renamed || bad signals/int/not-yet-renamed "stream.json is there"
kill -INT $pid
wait $pid
is signals/int/code 130 $?
[ ! -e stream.json ] && ok signals/int/not-renamed || bad signals/int/not-renamed "an interrupted run renamed its file"
part=$(ls stream.json.*.partial)
all_lines signals/int/complete-lines "$(wc -l <"$part" | tr -d ' ')" "$part"
has signals/int/says "$part" err
endless | $free "$run" -m demo -q --json --max-tokens 5 --batch 4 --map sigmaps --files-from - >piped 2>err &
pid=$!
wait_for lines_at_least 3 piped
kill -TERM $pid
wait $pid
is signals/term/code 143 $?
is signals/term/maps "square-$short.map.png" "$(ls -A sigmaps)"
all_lines signals/term/complete-lines "$(wc -l <piped | tr -d ' ')" piped
mkfifo paths
"$run" -m demo -q --json --verdict-only --batch 4 --files-from paths >slow 2>err &
pid=$!
exec 3>paths
printf '%s\n' "$one" >&3
wait_for lines_at_least 1 slow && ok inputs/slow-list/first-is-not-kept-waiting ||
	bad inputs/slow-list/first-is-not-kept-waiting "no result in 20 s"
printf '\n%s' "$one" >&3
exec 3>&-
wait $pid
is inputs/slow-list/code 0 $?
is inputs/slow-list/lines 2 "$(wc -l <slow | tr -d ' ')"
mkfifo silent
$free "$run" -m demo -q --json silent >out 2>err &
pid=$!
sleep 0.5
kill -INT $pid
wait $pid
is signals/int-while-reading/code 130 $?
is signals/int-while-reading/out "" "$(cat out)"
(
	endless | $free "$run" -m demo -q --json --verdict-only --files-from - 2>err
	echo $? >code
) | head -n 2 >out
is signals/pipe/code 141 "$(cat code)"
is signals/pipe/quiet "" "$(cat err)"
cp -r "$demo" shrinking
endless | "$run" -m shrinking -q --json --max-tokens 3 --files-from - -o bus.json 2>err &
pid=$!
wait_for lines_at_least 2 'bus.json.*.partial'
truncate -s 4096 shrinking/model.safetensors
wait $pid
is signals/bus/code 3 $?
is signals/bus/one-sentence 1 "$(wc -l <err)"
has signals/bus/file "shrinking/model.safetensors: the file shrank" err
has signals/bus/partial "$(ls bus.json.*.partial)" err

# ---- text arrives in pieces ----
if script -qec true /dev/null >/dev/null 2>&1; then
	TERM=xterm script -qec "stty cols 60; $run -m demo -q --isa ref --max-tokens 150 --temperature 1 $one" \
		--log-timing timing --log-out typescript >/dev/null 2>&1
	pieces=$(wc -l <timing)
	[ "$pieces" -gt 5 ] && ok terminal/streams || bad terminal/streams "$pieces writes"
	widest=$(sed "s/$(printf '\033')\[[0-9;]*[mK]//g" typescript | tr -d '\r' | grep '^    ' | wc -L)
	[ "$widest" -le 60 ] && ok terminal/wraps || bad terminal/wraps "$widest columns"
	TERM=dumb script -qec "$run -m demo --verdict-only tree" typescript >/dev/null 2>&1
	is terminal/dumb 0 "$(grep -c "$(printf '\033')" typescript)"
	TERM=xterm script -qec "$run -m demo --verdict-only tree" typescript >/dev/null 2>&1
	grep -q "$(printf '\033\\[1;31m\\|\033\\[32m')" typescript && ok terminal/color || bad terminal/color ""
	TERM=xterm NO_COLOR=1 script -qec "$run -m demo --verdict-only tree" typescript >/dev/null 2>&1
	is terminal/no-color 0 "$(grep -c "$(printf '\033\\[[0-9;]*m')" typescript)"
	TERM=xterm script -qec "$run -m demo -q --json --verdict-only tree" typescript >/dev/null 2>&1
	is terminal/json-plain 0 "$(grep -c "$(printf '\033')" typescript)"
else
	skip terminal "no script(1) here"
fi

# ---- tokenize ----
code tokenize/json 0 tokenize demo --json "Does the image looks real/fake?"
grep -qE '^\{"ids":\[[0-9]+(,[0-9]+)*\],"pieces":\["<s>"(,'$S')*\]\}$' out && ok tokenize/json/form ||
	bad tokenize/json/form "$(cat out)"
cp out a && printf 'Does the image looks real/fake?' | "$run" tokenize -m demo --json >out
cmp -s a out && ok tokenize/stdin || bad tokenize/stdin "$(cat out)"
printf 'Does the image looks real/fake?' | FR_RUN_MODEL=demo "$run" tokenize --json - >out
cmp -s a out && ok tokenize/stdin-dash || bad tokenize/stdin-dash "$(cat out)"
code tokenize/empty 0 tokenize -m demo --json
is tokenize/empty/bos '{"ids":[1],"pieces":["<s>"]}' "$(cat out)"
code tokenize/empty-no-bos 0 tokenize -m demo --json --no-bos
is tokenize/empty/no-bos '{"ids":[],"pieces":[]}' "$(cat out)"
code tokenize/empty-text 0 tokenize demo --json --no-bos ""
is tokenize/empty/text '{"ids":[],"pieces":[]}' "$(cat out)"
printf 'a\0b\n' | "$run" tokenize demo --json --no-bos >out
has tokenize/nul '"<0x00>"' out
has tokenize/newline-kept '"<0x0A>"' out
printf '\377' | "$run" tokenize demo --json --no-bos >out
has tokenize/not-utf8 '"<0xFF>"' out
code tokenize/list 0 tokenize demo "the image"
is tokenize/list/first "$(printf '1\t<s>')" "$(head -1 out)"
ids=$(sed -n 's/\t.*//p' out | tr '\n' ' ')
# shellcheck disable=SC2086
code tokenize/decode 0 tokenize demo --decode $ids
is tokenize/decode/text "the image" "$(cat out)"
# shellcheck disable=SC2086
code tokenize/decode-json 0 tokenize demo --json --decode $ids
has tokenize/decode-json/text '"text":"the image"}' out
says tokenize/decode-not-an-id 2 "'x' is not an id" tokenize demo --decode x
code tokenize/decode-beyond 2 tokenize demo --decode 99999999
mkdir tok && cp "$demo"/tokenizer* tok/ && code tokenize/no-weights 0 tokenize tok x

# ---- info ----
code info/human 0 info demo
for word in "model        demo" DEMO "hash " "tokenizer " "template " "preprocess " "KV cache" "machine " "lm_head"; do
	has "info/$word" "$word" out
done
code info/json 0 info demo --json --backend cpu
grep -q '"device":null,"host":{"layers_in_memory":[0-9]*,"free":[0-9]*,"total":[0-9]*,"fits":true}' out && ok info/json/host ||
	bad info/json/host "$(head -c 3000 out | grep -o '"memory".*')"
grep -qE '^\{"model":\{"name":"demo",.*"memory":\{"weights":[0-9]+,.*\}$' out && ok info/json/form ||
	bad info/json/form "$(cat out)"
code info/check 0 info --check -m demo
has info/check/line "every weight is finite" out
session() { "$run" info demo --json "$@" | sed 's/.*"session":\([0-9]*\),.*/\1/'; }
[ "$(session --batch 8)" -gt "$(session --batch 1)" ] && ok info/batch-costs || bad info/batch-costs "no more than one"
says info/none 3 "-m DIR" info
says info/two 2 "one MODEL expected" info -m demo demo

# ---- dump and diff ----
code dump/default 0 dump -m demo -q "$one" -o a.safetensors
code dump/ref 0 dump -m demo -q "$one" -o b.safetensors --isa ref
code dump/exact 0 dump -m demo -q "$one" -o exact.safetensors --isa "$exact"
code diff/same 0 diff exact.safetensors b.safetensors --rel 0
code dump/other-image 0 dump -m demo -q "$images"/edge.png -o c.safetensors
code diff/beyond 1 diff a.safetensors c.safetensors
code dump/tap 0 dump -m demo -q "$one" -o d.safetensors --tap 'vision.*' --max-tokens 0
code diff/names 2 diff a.safetensors d.safetensors
code diff/no-file 3 diff a.safetensors no-such-file
code dump/bad-image 1 dump -m demo -q t/notes.txt -o e.safetensors
[ ! -e e.safetensors ] && ok dump/bad-image/no-file || bad dump/bad-image/no-file "a file was left"
code dump/pixels 0 dump -m demo -q --pixels a.safetensors -o f.safetensors --tap 'logits'
code dump/no-match 2 dump -m demo -q "$one" -o g.safetensors --tap 'nothing'

# ---- help, manual page, completion and README name the same options ----
names_in() { grep -oE -- '^ +(-., )?--[a-z][a-z-]*' "$1" | grep -oE -- '--[a-z-]*' | sort -u; } # options of a help text
code help/overview 0 --help
names_in out >of-help
"$run" help | cmp -s - out && ok help/command-same || bad help/command-same "help and --help differ"
"$run" --man | sed 's/\\-/-/g' | sed -n 's/^\(\\fB-.\\fR, \)\{0,1\}\\fB\(--[a-z-]*\)\\fR.*/\2/p' | sort -u >of-man
is help/man "$(cat of-help)" "$(cat of-man)"
"$run" --completion bash | grep -oE -- '--[a-z][a-z-]*' | sort -u >of-completion
is help/completion "" "$(grep -vxF -f of-completion of-help)"
grep -oE -- '`[^`]*`' "$root/README.md" | grep -oE -- '(^|[ `])--[a-z][a-z-]*' | tr -d ' `' | sort -u >of-readme
is help/readme "" "$(grep -vxF -f of-help of-readme)"
for c in check info tokenize dump diff bench selftest; do
	code "help/$c" 0 "$c" --help
	has "help/$c/usage" "usage: fr-run " out
	names_in out >of-command
	is "help/$c/options" "" "$(grep -vxF -f of-help of-command)"
done
code version 0 --version
for word in "fr-run [0-9]" "commit " "compiler: " "levels " "backends: "; do
	grep -q "$word" out && ok "version/$word" || bad "version/$word" "$(cat out)"
done
"$run" --completion bash >comp && bash -n comp && ok completion/parses || bad completion/parses ""
got=$(bash -c '. ./comp; COMP_WORDS=(fr-run --verd); COMP_CWORD=1; _fr_run; echo "${COMPREPLY[*]}"')
is completion/option --verdict-only "$got"
got=$(bash -c '. ./comp; COMP_WORDS=(fr-run --kv ""); COMP_CWORD=2; _fr_run; echo "${COMPREPLY[*]}"')
is completion/choice "f16 f32" "$got"
got=$(bash -c '. ./comp; COMP_WORDS=(fr-run tokenize --no); COMP_CWORD=2; _fr_run; echo "${COMPREPLY[*]}"')
is completion/of-a-command --no-bos "$got"

# ---- measuring: whole runs, the plot, an interruption ----
code bench/model 0 bench model -m demo --json --seconds 0.001 --batch 1 --max-tokens 9 --filter '[de]*[t9]' --svg plot.svg "$one"
has bench/whole-verdict '"what":"end_verdict"' out
has bench/whole-text '"tokens":9,"ms":' out
has bench/cached '"what":"cached","share":1' out
has bench/memory '"name":"memory/end_text"' out
has bench/plot '>decode/b1_kv159<' plot.svg
is bench/plot-alone plot.svg "$(echo plot.svg*)"
$free "$run" bench kernels --seconds 100 --filter 'norm_*' --svg no.svg >out 2>err &
pid=$!
wait_for lines_at_least 3 out # two of the machine, one of the columns: measuring begins
sleep 1
kill -INT $pid
wait $pid
is bench/interrupted/code 130 $?
is bench/interrupted/row 1 "$(grep -c '^norm_' out)"
is bench/interrupted/no-plot "no.svg*" "$(echo no.svg*)"

# ---- the library: the example, and an installed tree ----
p=$("$run" -m demo -q --json "$one" | sed 's/.*"p_fake":\([^,]*\),.*/\1/')
if [ -x "$example" ]; then
	"$example" demo "$one" >out 2>err
	is library/example/code 0 $?
	has library/example/score "P(fake) $p uncalibrated" out
	"$example" demo no-such.png >out 2>err
	is library/example/usage 1 $?
else
	skip library/example "$example is not built"
fi
if [ -n "$PROGRAM" ]; then
	skip install "this is another build's program"
elif make -C "$root" -s install DESTDIR="$work/inst" PREFIX=/usr >log 2>&1; then
	ok install
	for f in bin/fr-run lib/libfr-run.a include/fr.h lib/pkgconfig/fr-run.pc share/man/man1/fr-run.1 \
		share/bash-completion/completions/fr-run; do
		[ -s "inst/usr/$f" ] && ok "install/$f" || bad "install/$f" "missing"
	done
	if command -v pkg-config >/dev/null; then
		# shellcheck disable=SC2046
		PKG_CONFIG_PATH=inst/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$work/inst sh -c \
			'cc "$1" $(pkg-config --cflags --libs fr-run) -o linked' - "$root/tests/example.c" 2>log &&
			./linked demo "$one" >out && has install/links "P(fake) $p uncalibrated" out || bad install/links "$(cat log)"
	else
		skip install/links "no pkg-config here"
	fi
else
	bad install "$(tail -3 log)"
fi
exit $failed
