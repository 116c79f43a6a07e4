/* The table of the demo model's files; bytes.S holds the bytes. The byte after each end is NUL. */
#include "demo.h"

#define FILES(X)                                                                                                       \
	X(added_tokens, "added_tokens.json")                                                                           \
	X(config, "config.json")                                                                                       \
	X(generation_config, "generation_config.json")                                                                 \
	X(safetensors, "model.safetensors")                                                                            \
	X(preprocessor_config, "preprocessor_config.json")                                                             \
	X(processor_config, "processor_config.json")                                                                   \
	X(special_tokens_map, "special_tokens_map.json")                                                               \
	X(tokenizer, "tokenizer.model")                                                                                \
	X(tokenizer_config, "tokenizer_config.json")

#define DECLARE(symbol, file)                                                                                          \
	extern const uint8_t fr_demo_##symbol[] __attribute__((visibility("hidden")));                                 \
	extern const uint8_t fr_demo_##symbol##_end[] __attribute__((visibility("hidden")));
#define ROW(symbol, file) {file, fr_demo_##symbol, fr_demo_##symbol##_end},

FILES(DECLARE)

const struct fr_blob fr_demo_blobs[] = {FILES(ROW)};
const size_t fr_demo_blob_count = sizeof(fr_demo_blobs) / sizeof(fr_demo_blobs[0]);
