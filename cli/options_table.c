/* The table of options, from which the parser, the help, the man page and the completion are made. */
#include "cli.h"

#include <stddef.h>

#define V(member) offsetof(struct values, member)

const char *const group_titles[G_GROUPS] = {
	[G_MODEL] = "Model",	 [G_QUESTION] = "Question and text",
	[G_VERDICT] = "Verdict", [G_INPUT] = "Input",
	[G_OUTPUT] = "Output",	 [G_MACHINE] = "Machine",
	[G_TOOLS] = "Tools",	 [G_GENERAL] = "General",
};

const struct option options[] = {
	{"model", 'm', "demo|DIR", T_TEXT, V(model), .commands = C_SESSION | C_INFO | C_TOKENIZE | C_BENCH,
	 .group = G_MODEL,
	 .help = "a checkpoint's directory as published, or demo: the small model inside the program, which shows the "
		 "machinery and is no detector"},
	{"vision-tower", 0, "DIR", T_TEXT, V(vision_tower), .commands = C_SESSION | C_INFO | C_BENCH, .group = G_MODEL,
	 .help = "FakeReasoning: the directory of its CLIP (default: where config.json says, else by that name in or beside "
		 "the model's directory)"},
	{"dino", 0, "FILE", T_TEXT, V(dino), .commands = C_SESSION | C_INFO | C_BENCH, .group = G_MODEL,
	 .help = "FakeReasoning: the weights of its DINOv2 (default: dinov2_vitl14_pretrain.pth, or one dinov2*.pth, in "
		 "or beside the model's directory or in CLIP's)"},
	{"base", 0, "DIR", T_TEXT, V(base), .commands = C_SESSION | C_INFO | C_BENCH | C_TOKENIZE, .group = G_MODEL,
	 .help = "a LoRA checkpoint: the model it was trained on (default: where adapter_config.json says, else by that "
		 "name in or beside the checkpoint's directory)"},
	{"calibration", 0, "FILE", T_TEXT, V(calibration), .commands = C_CHECK, .group = G_MODEL,
	 .help = "temperature and bias of P(fake), fitted for these weights; without it P(fake) is uncalibrated; of a "
		 "model that reasons they apply to both scores"},

	{"prompt", 0, "TEXT", T_TEXTS, V(prompts), .commands = C_SESSION | C_INFO, .group = G_QUESTION,
	 .help = "the question; without <image> in it, \"<image>\\n\" goes in front (default: the model's own). Given "
		 "several times, each image is asked each: a result for every image and prompt, in that order, for which "
		 "the image, and what the prompts begin with alike, are computed once"},
	{"chat", 0, "raw|llava|llava_v1", T_CHOICE, V(chat), .commands = C_SESSION | C_INFO, .group = G_QUESTION,
	 .help = "the form around the question: none; USER: ... ASSISTANT:; or that after a system text (default: the "
		 "model's own)"},
	{"max-tokens", 0, "N", T_INT, V(max_tokens), 0, 1 << 20, C_SESSION | C_INFO | C_BENCH, G_QUESTION,
	 "generated tokens at most (default 512; dump: greedy steps, default 24; "
	 "bench model: those of a whole run, default 128)"},
	{"temperature", 0, "X", T_REAL, V(temperature), 0, 100, C_CHECK, G_QUESTION,
	 "sample the text; 0 is greedy (default 0)"},
	{"top-k", 0, "N", T_INT, V(top_k), 0, 1 << 20, C_CHECK, G_QUESTION,
	 "sample among the N likeliest tokens; 0 is all (default 0)"},
	{"top-p", 0, "X", T_REAL, V(top_p), 1e-6, 1, C_CHECK, G_QUESTION,
	 "sample among the likeliest tokens that hold X of the probability (default 1)"},
	{"seed", 0, "N", T_U64, V(seed), .commands = C_CHECK, .group = G_QUESTION,
	 .help = "of the sampling; the same seed and image give the same text (default 0)"},

	{"verdict-only", 0, NULL, T_FLAG, V(verdict_only), .commands = C_CHECK | C_INFO, .group = G_VERDICT,
	 .help = "stop after P(fake), write no text; of a model that reasons this is its score before any reasoning"},
	{"rule", 0, "logits|authors", T_CHOICE, V(rule), .commands = C_CHECK, .group = G_VERDICT,
	 .help = "verdict from P(fake), or from the text by the rule of the model's authors (default logits)"},
	{"threshold", 0, "X", T_REAL, V(threshold), 1e-9, 1, C_CHECK, G_VERDICT,
	 "P(fake) from X on is judged fake (default 0.5)"},
	{"band", 0, "LO,HI", T_BAND, V(band), 0, 1, C_CHECK, G_VERDICT,
	 "P(fake) from LO to below HI is judged inconclusive (default: no band)"},
	{"exit-verdict", 0, NULL, T_FLAG, V(exit_verdict), .commands = C_CHECK, .group = G_VERDICT,
	 .help = "exit with 10 when any image is judged fake; the demo model refuses it"},

	{"files-from", 0, "FILE|-", T_TEXT, V(files_from), .commands = C_CHECK, .group = G_INPUT,
	 .help = "read paths from FILE or stdin, one a line, each judged as soon as it is read"},
	{"null", '0', NULL, T_FLAG, V(null), .commands = C_CHECK, .group = G_INPUT,
	 .help = "the paths of --files-from end with NUL instead of a newline"},
	{"max-pixels", 0, "N", T_U64, V(max_pixels), 1, 1.8e19, C_SESSION, G_INPUT,
	 "refuse larger images (default 178956970, Pillow's own limit)"},

	{"json", 0, NULL, T_FLAG, V(json), .commands = C_CHECK | C_INFO | C_TOKENIZE | C_BENCH, .group = G_OUTPUT,
	 .help = "one JSON object a line and image, keys always the same"},
	{"csv", 0, NULL, T_FLAG, V(csv), .commands = C_CHECK, .group = G_OUTPUT,
	 .help = "one row an image, after a header (RFC 4180)"},
	{"timings", 0, NULL, T_FLAG, V(timings), .commands = C_CHECK, .group = G_OUTPUT,
	 .help = "add the milliseconds of each stage"},
	{"output", 'o', "FILE", T_TEXT, V(output), .commands = C_SESSION | C_INFO | C_TOKENIZE, .group = G_OUTPUT,
	 .help = "write there instead of stdout: under another name, renamed when all is done"},
	{"map", 0, "DIR", T_TEXT, V(map), .commands = C_CHECK, .group = G_OUTPUT,
	 .help = "also write a PNG for each image there: where the encoder looked, as a heat map over the picture. That is "
		 "attention, not the forged region, and weak evidence"},
	{"quiet", 'q', NULL, T_FLAG, V(quiet), .commands = C_SESSION, .group = G_OUTPUT,
	 .help = "nothing on stderr but errors"},
	{"verbose", 'v', NULL, T_FLAG, V(verbose), .commands = C_SESSION, .group = G_OUTPUT,
	 .help = "say what is loaded, the memory plan, and where the time went"},
	{"color", 0, "auto|always|never", T_CHOICE, V(color), .commands = C_CHECK, .group = G_OUTPUT,
	 .help = "(default auto: on a terminal, unless NO_COLOR is set or TERM is dumb)"},

	{"backend", 0, "auto|cpu|cuda", T_CHOICE, V(backend), .commands = C_SESSION | C_INFO | C_BENCH,
	 .group = G_MACHINE,
	 .help = "where to compute: cuda is an NVIDIA GPU; one that is not there ends with exit 3 (default auto: cuda "
		 "where there is one, else cpu)"},
	{"gpu-layers", 0, "N", T_INT, V(gpu_layers), 0, 1024, C_SESSION | C_INFO, G_MACHINE,
	 "cuda: decoder layers whose weights lie in the GPU's memory; the others stay in the host's and are read over "
	 "the bus (default: all); results do not depend on it"},
	{"precise", 0, NULL, T_FLAG, V(precise), .commands = C_SESSION | C_INFO | C_BENCH, .group = G_MACHINE,
	 .help = "where activations are rounded to 16 bits before matrix products (cuda; the CPU's levels avx512bf16 and "
		 "amx), take them in twice 16 bits; the CPU's other levels take float32 in any case"},
	{"no-cublas", 0, NULL, T_FLAG, V(no_cublas), .commands = C_SESSION | C_INFO | C_BENCH, .group = G_MACHINE,
	 .help = "cuda: fr-run's own matrix products everywhere, none of NVIDIA's cuBLASLt"},
	{"isa", 0, "ref|avx2|avx512|avx512bf16|amx", T_CHOICE, V(isa), .commands = C_SESSION | C_INFO | C_BENCH,
	 .group = G_MACHINE,
	 .help = "the CPU's instruction set; one that is not there ends with exit 3 (default: the best there is). ref, avx2 "
		 "and avx512 give the same bits, on every machine; avx512bf16 and amx are faster and round activations to "
		 "bf16 before products with bf16 weights (amx: with all), which moves P(fake) a little"},
	{"threads", 't', "N", T_INT, V(threads), 1, 4096, C_SESSION | C_BENCH, G_MACHINE,
	 "worker threads (default: the CPUs this process may use); results do not depend on it"},
	{"batch", 0, "N", T_INT, V(batch), 1, 256, C_CHECK | C_INFO | C_BENCH, G_MACHINE,
	 "texts that are written together, so that weights are read once for all of them; results do not depend on it "
	 "(default: 8, but no more than there are images and prompts, nor than have room beside the weights; bench model: "
	 "the most texts, default 16)"},
	{"speculate", 0, "auto|off|N", T_TEXT, V(speculate), .commands = C_CHECK | C_INFO, .group = G_MACHINE,
	 .help = "greedy text: tokens proposed ahead from what earlier texts went on with, and checked together, so that "
		 "weights are read once for several; results do not depend on it. N proposes that many, 1 to 15, auto as "
		 "many as pay on this device (default auto)"},
	{"draft-from", 0, "FILE", T_TEXT, V(draft_from), .commands = C_CHECK, .group = G_MACHINE,
	 .help = "learn proposals from earlier texts, too: lines of --json, or one text a line"},
	{"kv", 0, "f16|f32", T_CHOICE, V(kv), .commands = C_SESSION | C_INFO, .group = G_MACHINE,
	 .help = "number format of the KV cache (default f16)"},

	{"check", 0, NULL, T_FLAG, V(check), .commands = C_INFO, .group = G_TOOLS,
	 .help = "info: read every weight, and fail naming the first tensor with a value that is not finite"},
	{"no-bos", 0, NULL, T_FLAG, V(no_bos), .commands = C_TOKENIZE, .group = G_TOOLS,
	 .help = "tokenize: no start token in front"},
	{"decode", 0, NULL, T_FLAG, V(decode), .commands = C_TOKENIZE, .group = G_TOOLS,
	 .help = "tokenize: the arguments are ids, print their text"},
	{"tap", 0, "GLOB", T_TEXT, V(tap), .commands = C_DUMP, .group = G_TOOLS,
	 .help = "dump: only intermediates whose name matches, and only the stages they need"},
	{"pixels", 0, "FILE", T_TEXT, V(pixels), .commands = C_DUMP, .group = G_TOOLS,
	 .help = "dump: feed `pixels` of a safetensors file instead of an image"},
	{"ids", 0, "FILE", T_TEXT, V(ids), .commands = C_DUMP, .group = G_TOOLS,
	 .help = "dump: feed `input_ids` of a safetensors file instead of the prompt"},
	{"filter", 0, "GLOB", T_TEXT, V(filter), .commands = C_BENCH, .group = G_TOOLS,
	 .help = "bench: only rows whose name matches"},
	{"seconds", 0, "X", T_REAL, V(seconds), 1e-3, 3600, C_BENCH, G_TOOLS,
	 "bench: time for a row (default 1; kernels on a GPU: 0.3)"},
	{"svg", 0, "FILE", T_TEXT, V(svg), .commands = C_BENCH, .group = G_TOOLS,
	 .help = "bench kernels, bench model: also draw the rows there as a roofline plot: speed over operations per byte, "
		 "under what reading and arithmetic allow"},
	{"sweep", 0, NULL, T_FLAG, V(sweep), .commands = C_BENCH, .group = G_TOOLS,
	 .help = "bench kernels: each row with 1 thread, 2 and so on up to --threads"},
	{"rel", 0, "X", T_REAL, V(rel), 0, 1e9, C_DIFF, G_TOOLS,
	 "diff: the relative L2 distance still accepted (default 1e-4)"},

	{"help", 'h', NULL, T_FLAG, V(help), .commands = C_ALL, .group = G_GENERAL,
	 .help = "this text; after a command, its own"},
	{"version", 0, NULL, T_FLAG, V(version), .commands = C_ALL, .group = G_GENERAL,
	 .help = "version, commit, compiler, and the instruction sets found and in use"},
	{"completion", 0, "bash", T_CHOICE, V(completion), .commands = C_HELP | C_CHECK, .group = G_GENERAL,
	 .help = "print the shell completion"},
	{"man", 0, NULL, T_FLAG, V(man), .commands = C_HELP | C_CHECK, .group = G_HIDDEN,
	 .help = "print the manual page's source"},
};
const size_t n_options = sizeof options / sizeof *options;

_Static_assert(sizeof options / sizeof *options <= sizeof((struct cli *)0)->from, "one origin for each option");
