#!/bin/sh
# Black-box tests of the command line with a model whose parts lie apart: options, variables, what `info` says of parts
# that are there and of those that are not. All cases are exact/.
# usage: [PROGRAM=build/asan/fr-run] tests/cli_parts.test.sh   (after make; from the repository's root)
# shellcheck disable=SC2015,SC2154,SC2086
. tests/cli.sh

golden=$root/tests/golden/e2e
clip=clip-vit-large-patch14-336
lora=$golden/fr-lora-safetensors
ln -s "$golden/fr-merged-f16/model" model # nothing beside it
mkdir whole && ln -s "$golden/fr-merged-f16/model" whole/model && ln -s "$golden/fr-merged-f16/clip" whole/$clip &&
	ln -s "$golden/fr-merged-f16/dino.pth" whole/dinov2_vitl14_pretrain.pth
cp "$images/wide.png" .
field() { sed "s/.*\"$1\":\\([^,}]*\\).*/\\1/" "$2"; } # KEY FILE: of the first object that has it

# ---- parts that are there ----
code found/json 0 -m whole/model -q --json --verdict-only wide.png
mv out found.json
code named/json 0 -m model --vision-tower whole/$clip --dino "$golden/fr-merged-f16/dino.pth" -q --json --verdict-only \
	wide.png
cmp -s out found.json && ok found/as-named || bad found/as-named "$(cat out found.json)"
code info/found 0 info whole/model
for line in "model        model, FakeReasoning (LLaVA-1.5 with CLIP, DINOv2 and cross-attention), from whole/model" \
	"vision-tower from whole/$clip" "dino         from whole/dinov2_vitl14_pretrain.pth" \
	"clip         2 of 3 layers run" "dino         3 of 3 layers run" "positions of 6 x 6 patches, resized to 4 x 4" \
	"fusion       clip attends to dino: 5 heads of 8, their bias 5 -> 12 -> 5" "the text cut at <image>" \
	"template     chat llava_v1" "pil-bicubic-pad56-"; do
	has "info/found/$line" "$line" out
done
has info/found/dtypes "weights      mixed (f32, f16), 132 tensors used, 207 not needed" out
has info/found/dino-tensors "tensors of dino" out
has info/found/unused "and 207 that are not needed (--json names them)" out
grep -q text_model out && bad info/found/used-only "$(grep text_model out)" || ok info/found/used-only
code info/found-json 0 info whole/model --json
has info/found-json/used '{"name":"cls_token","dtype":"f32","shape":[1,1,40],"count":1,"of":"dino","used":true}' out
has info/found-json/unused '{"name":"logit_scale","dtype":"f32","shape":[],"count":1,"of":"vision-tower","used":false}' out
code info/lora 0 info "$lora/model" --base "$lora/base" --vision-tower "$lora/clip" --dino "$lora/dino.pth"
has info/lora/base "base         from $lora/base" out
has info/lora/adapter "adapter      LoRA of rank 4, scale 2.5, on q v up" out
code info/lora-json 0 info "$lora/model" --base "$lora/base" --vision-tower "$lora/clip" --dino "$lora/dino.pth" --json
has info/lora-json/adapter '"lora":{"rank":4,"scale":2.5,"matrices":["q","v","up"]}' out
has info/lora-json/fusion '"fusion":{"heads":7,"mid":14,"ffn":72}' out
code info/demo-json 0 info demo --json
has info/demo-json/none '"parts":[],' out
code tokenize/base 0 tokenize "$lora/model" --base "$lora/base" --no-bos "This is"
mv out base.txt
code tokenize/of-base 0 tokenize "$lora/base" --no-bos "This is"
cmp -s out base.txt && ok tokenize/as-base || bad tokenize/as-base "$(cat out base.txt)"

# ---- parts that are not ----
places="openai/$clip, model/openai/$clip, model/$clip, ./$clip"
missing="the vision tower (CLIP) is missing, name its directory with --vision-tower: looked for it as $places"
says missing/check 3 "fr-run: model: $missing; DINOv2 is missing, name its file with --dino: looked for" -m model wide.png
code missing/info 3 info model
has missing/info/sentence "fr-run: model: $missing; DINOv2" err
has missing/info/tower "vision-tower $missing" out
has missing/info/dino "dino         DINOv2 is missing, name its file with --dino: looked for" out
has missing/info/fusion "fusion       clip attends to dino: 5 heads of 8" out
has missing/info/decoder "decoder      2 layers, width 40" out
code missing/info-json 3 info model --json --vision-tower whole/$clip
has missing/info-json/parts '"parts":[{"part":"vision-tower","path":"whole/'$clip'","looked":[]},{"part":"dino","path":null,"looked":["model","."' out
has missing/info-json/clip '"vision":[{"role":"clip","layers":3,' out
code missing/info-file 3 info model -o report
has missing/info-file/written "vision-tower the vision tower" report
says missing/base 3 "the base model is missing, name its directory with --base" tokenize "$lora/model" text
says missing/given 3 "--dino nowhere.pth: cannot be opened: No such file or directory" \
	info model --dino nowhere.pth --vision-tower whole/$clip

# ---- parts of no use ----
says spare/dino 2 "--dino: the model demo has no use for it: its vision encoder lies in its own files" \
	-m demo --dino x.pth wide.png
says spare/base 2 "--base: the model whole/model has no use for it: it is no LoRA checkpoint (adapter_config.json)" \
	info whole/model --base "$lora/base"
says spare/tokenize 2 "--base: the model demo has no use for it" tokenize demo --base x text
says spare/command 2 "--dino has no meaning for \`tokenize\`" tokenize demo --dino x text
FR_RUN_DINO=nowhere FR_RUN_BASE=nowhere FR_RUN_VISION_TOWER=nowhere code spare/environment 0 -m demo -q --verdict-only wide.png
exit $failed
