/* Fuzz target: the input is tokenizer.json, or a tokenizer_config.json and a NUL byte in front of one. */
#include "tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	const uint8_t *nul = size ? memchr(bytes, 0, size) : NULL;
	size_t config_size = nul ? (size_t)(nul - bytes) : 0, skip = nul ? config_size + 1 : 0;
	size_t json_size = size - skip;
	uint8_t *config = malloc(config_size + !config_size), *json = malloc(json_size + !json_size); /* exact sizes */
	struct fr_tokenizer *tok;

	memcpy(config, bytes, config_size);
	memcpy(json, bytes + skip, json_size);
	if (fr_tokenizer_from_json(json, json_size, nul ? config : NULL, config_size, &tok, NULL) == 0)
		check_tokenizer(tok, bytes, size);
	free(config);
	free(json);
	return 0;
}
