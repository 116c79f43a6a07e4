/* The demo model's files as they are, each between two symbols; paths are relative to the repository root, where
 * make runs. blobs.c gives them their names. */
	.section .rodata, "a", %progbits
	.macro file symbol, path
	.balign 64
	.globl fr_demo_\symbol, fr_demo_\symbol\()_end
	.hidden fr_demo_\symbol, fr_demo_\symbol\()_end
fr_demo_\symbol:
	.incbin "weights/demo/model/\path"
fr_demo_\symbol\()_end:
	.byte 0
	.endm

	file added_tokens, added_tokens.json
	file config, config.json
	file generation_config, generation_config.json
	file safetensors, model.safetensors
	file preprocessor_config, preprocessor_config.json
	file processor_config, processor_config.json
	file special_tokens_map, special_tokens_map.json
	file tokenizer, tokenizer.model
	file tokenizer_config, tokenizer_config.json

	.section .note.GNU-stack, "", %progbits
