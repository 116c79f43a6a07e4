/* Fuzz target: the input is tokenizer.model, or a tokenizer_config.json and a NUL byte in front of one. A config begins
 * with a brace, which no tokenizer.model that is read begins with. */
#include "tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	const uint8_t *nul = size && bytes[0] == '{' ? memchr(bytes, 0, size) : NULL;
	size_t config_size = nul ? (size_t)(nul - bytes) : 0, skip = nul ? config_size + 1 : 0;
	size_t model_size = size - skip;
	uint8_t *config = malloc(config_size + !config_size),
		*model = malloc(model_size + !model_size); /* exact sizes */
	struct fr_tokenizer *tok;

	memcpy(config, bytes, config_size);
	memcpy(model, bytes + skip, model_size);
	if (fr_tokenizer_from_model(model, model_size, nul ? config : NULL, config_size, NULL, 0, &tok, NULL) == 0)
		check_tokenizer(tok, bytes, size);
	free(config);
	free(model);
	return 0;
}
