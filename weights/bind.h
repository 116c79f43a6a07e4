/* The binder: a description asks for every tensor it needs, by role, with the shape it must have. */
#ifndef FR_WEIGHTS_BIND_H
#define FR_WEIGHTS_BIND_H

#include "../engine/desc.h"

/* Which of a model's files a tensor comes from. Most models have the first alone. */
enum fr_from {
	FR_FROM_MODEL,   /* the checkpoint; of a LoRA one: the base */
	FR_FROM_TOWER,   /* a CLIP in a directory of its own */
	FR_FROM_DINO,    /* a file of DINOv2 */
	FR_FROM_TRAINED, /* of a LoRA checkpoint: what was trained besides (non_lora_trainables.bin) */
	FR_FROM_ADAPTER, /* of a LoRA checkpoint: the thin matrices */
	FR_FROMS
};

/* Views into the store (shared, not owned). An absent optional tensor has data NULL. Matrices are [out, in]. */
struct fr_vit_layer_weights {
	struct fr_tensor ln1_w, ln1_b, q_w, q_b, k_w, k_b, v_w, v_b, o_w, o_b; /* [dim], [dim,dim] */
	struct fr_tensor ln2_w, ln2_b, fc1_w, fc1_b, fc2_w, fc2_b;	       /* [ffn,dim], [dim,ffn] */
	struct fr_tensor ls1, ls2;					       /* [dim] if layer_scale */
};
struct fr_vit_weights {
	/* [dim], [dim,3,p,p] taken as [dim,3*p*p], [dim], [1+N,dim] (resized where the checkpoint's is another grid) */
	struct fr_tensor cls, patch_w, patch_b, pos;
	struct fr_tensor pre_w, pre_b;		     /* [dim] if pre_ln */
	struct fr_vit_layer_weights *layer;	     /* [run] */
};
struct fr_proj_weights {
	struct fr_tensor l1_w, l1_b, l2_w, l2_b; /* [proj_dim,vit dim], [text dim,proj_dim] */
};
struct fr_fusion_weights { /* all absent without a fusion */
	struct fr_tensor bias1_w, bias1_b, bias2_w, bias2_b; /* [mid,heads], [mid], [heads,mid], [heads] */
	struct fr_tensor q_w, q_b, k_w, k_b, v_w, v_b, o_w, o_b; /* [text dim,text dim], [text dim] */
	struct fr_tensor fc1_w, fc1_b, fc2_w, fc2_b; /* [ffn,text dim], [ffn], [text dim,ffn], [text dim] */
	struct fr_tensor norm1_w, norm1_b, norm2_w, norm2_b; /* [text dim] */
};
struct fr_lora_weights { /* absent: the matrix has no adapter */
	struct fr_tensor a, b; /* [rank,in], [out,rank] */
};
struct fr_text_layer_weights {
	struct fr_tensor norm1, q, k, v, o;	/* [dim], [heads*hd,dim], [kv_heads*hd,dim] x2, [dim,heads*hd] */
	struct fr_tensor norm2, gate, up, down; /* [dim], [ffn,dim] x2, [dim,ffn] */
	struct fr_lora_weights lora[FR_LORAS];
};
struct fr_weights {
	struct fr_vit_weights vit[FR_MAX_BRANCHES];
	struct fr_proj_weights proj[FR_MAX_BRANCHES];
	struct fr_fusion_weights fusion;
	struct fr_tensor embed, norm, lm_head; /* [vocab,dim], [dim], [vocab,dim] (= embed when tied) */
	struct fr_text_layer_weights *layer;   /* [text.layers] */
	size_t used, unused;		       /* tensors of the stores that are and are not asked for */
	uint8_t *asked[FR_FROMS]; /* owned, [tensors of that store]: 1 where it is asked for; NULL: no store */
	const char *origin; /* the places of the names table that fit: "hf-llava", "hf-llava-4.52", "llava" */
	char dtype[8];	    /* of the matrices: "bf16", "f16", "f32", or "mixed" */
	void **copies;	    /* owned: tensors whose data is not aligned to its items */
	size_t n_copies, copied_bytes;
};
/* What tells a description its sizes: the tensor that fills a role of the names table (names.c: "vit.pos",
 * "vit.layer.fc1.w", "projector.1.w", "fusion.bias1.w", "text.layer.q.lora_a"), in the file where the binder would take it
 * from; NULL if there is none. branch: as fr_vit_desc.role, NULL where the role is of no branch; layer: ignored where
 * the role is of none. Stores may be NULL. */
const struct fr_tensor *fr_role_find(struct fr_store *const from[FR_FROMS], const char *branch, const char *role,
				     int layer);
/* How many layers the part has to which the role belongs: up to the last of which any tensor is there, so that what a
 * layer lacks is missing and no end. At most FR_MAX_LAYERS are looked for. */
#define FR_MAX_LAYERS 1024
int fr_role_layers(struct fr_store *const from[FR_FROMS], const char *branch, const char *role);

/* Where it may be, "NAME or NAME in FILE", into buf; returns buf. */
char *fr_role_names(struct fr_store *const from[FR_FROMS], const char *branch, const char *role, int layer, char *buf,
		    size_t size);

/* All missing or mis-shaped tensors are reported in one sentence: their number, and of the first 8 (as far as the
 * sentence has room) the names tried, the file and both shapes. Tensors of FR_FROM_TRAINED and FR_FROM_ADAPTER that
 * nothing asks for are refused by name; those of the other stores are counted as unused. */
int fr_bind(const struct fr_model_desc *desc, struct fr_store *const from[FR_FROMS], struct fr_weights *out,
	    struct fr_error *err);
void fr_weights_free(struct fr_weights *w);

#endif
