/* The commands: what the line may name, and what help and the manual page say of each. */
#include "cli.h"

#include <string.h>

const struct command commands[] = {
	{"check", C_CHECK, "[check] [options] PATH...", "judge images: real or fake, P(fake), and why",
	 "PATH is an image, a folder (read recursively, in byte order of the paths), or - for an image on stdin. In a "
	 "folder, files whose first bytes are an image's are judged, others are counted, hidden ones and links to "
	 "folders are left out. An image that cannot be judged is a result with an error, and the rest goes on.",
	 cmd_check},
	{"info", C_INFO, "info [options] MODEL", "what a model is and what memory it needs, before anything is loaded",
	 "Shapes, number formats, tensor names found, template, tokens, image preprocessing, and the memory that a run "
	 "with these options takes. Of a model whose parts are not all there, what is missing, where it was looked for and "
	 "what the others say (exit 3).",
	 cmd_info},
	{"tokenize", C_TOKENIZE, "tokenize [options] MODEL [TEXT|-]", "text to ids and pieces, or ids to text",
	 "Without TEXT, or with -, stdin is taken byte for byte. With -m the MODEL argument is left out. Only the "
	 "tokenizer is loaded.",
	 cmd_tokenize},
	{"dump", C_DUMP, "dump [options] -m MODEL IMAGE -o OUT.safetensors", "write the intermediates of one image",
	 "Runs prompt and image, then greedy steps, and writes every named intermediate as safetensors, for `diff` "
	 "with "
	 "another run or with a reference framework's dump.",
	 cmd_dump},
	{"diff", C_DIFF, "diff [options] A.safetensors B.safetensors", "where two dumps differ",
	 "Prints for each tensor the largest difference, the relative L2 distance and the worst index, then the first "
	 "tensor beyond the bound. Exit 0 within, 1 beyond, 2 when names or shapes do not match.",
	 cmd_diff},
	{"bench", C_BENCH, "bench [options] [peak|kernels|model [IMAGE]]",
	 "what this machine can do, and what the kernels reach of it",
	 "peak: the most arithmetic and memory reads of every level, by one thread to all. kernels: every kernel at real "
	 "shapes, as a share of the peaks of the same second. model: the stages of a whole model (-m) with IMAGE or "
	 "noise: vision, prefill at several lengths, decoding at several positions of up to --batch texts, whole runs from "
	 "process start, and memory.",
	 cmd_bench},
	{"selftest", C_SELFTEST, "selftest", "known answers on this machine",
	 "Runs every kernel at every instruction set that this machine has and compares bit for bit; on a GPU the kernels "
	 "whose bits no device may change, and the text of the demo model.", cmd_selftest},
	{"help", C_HELP, "help [COMMAND]", "this text, or that of a command", "", cmd_help},
};
const size_t n_commands = sizeof commands / sizeof *commands;

const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < n_commands; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

int cmd_help(struct cli *c)
{
	const struct command *cmd = c->n_path ? command_find(c->path[0]) : NULL;

	if (c->n_path && !cmd)
		return complain(EXIT_USAGE, "no command '%s' (fr-run help lists them)", c->path[0]);
	usage_help(stdout, cmd);
	return fflush(stdout) ? complain(EXIT_CANNOT, "stdout cannot be written") : EXIT_DONE;
}
