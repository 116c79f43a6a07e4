/* The names table: which tensor of a checkpoint fills which field of fr_weights, as data.
 *
 * A row is a tensor that the model needs: its role, its field, its shape in terms of the description, and its name in
 * each naming scheme (a column; NULL: the scheme has no such tensor). A place says under which prefix a part of the
 * model may lie, and in which scheme. A further origin of weights is a column, if it names tensors in its own way,
 * and the places where its parts lie. */
#ifndef FR_WEIGHTS_NAMES_H
#define FR_WEIGHTS_NAMES_H

#include "bind.h"

enum fr_part { FR_PART_VISION, FR_PART_PROJ, FR_PART_FUSION, FR_PART_TEXT, FR_PART_HEAD, FR_PART_LORA, FR_PARTS };
/* HF: transformers; DINO: DINOv2's own repository; LLAVA: what the original LLaVA and FakeReasoning add to HF's */
enum fr_scheme { FR_SCHEME_HF, FR_SCHEME_DINO, FR_SCHEME_LLAVA, FR_SCHEMES };

/* Sizes of a part, taken from the description. DIM, FFN: of the part itself; IN: what enters the projector; MAPS, MID:
 * channels of the fusion's bias, outside and inside; RANK: of the adapter. */
enum fr_size {
	FR_SZ_NONE,
	FR_SZ_DIM,
	FR_SZ_FFN,
	FR_SZ_IN,
	FR_SZ_Q,
	FR_SZ_KV,
	FR_SZ_VOCAB,
	FR_SZ_POS,
	FR_SZ_RGB,
	FR_SZ_PATCH,
	FR_SZ_3DIM,
	FR_SZ_ONE,
	FR_SZ_MAPS,
	FR_SZ_MID,
	FR_SZ_RANK,
	FR_SIZES
};

/* When a row is asked for. */
enum fr_need {
	FR_NEED_ALWAYS,
	FR_NEED_PRE_LN,
	FR_NEED_PATCH_BIAS,
	FR_NEED_LAYER_SCALE,
	FR_NEED_SPLIT_QKV,
	FR_NEED_PACKED_QKV,
	FR_NEED_PROJ_BIAS,
	FR_NEED_UNTIED,
	FR_NEED_ABSENT, /* never: where it is, the model is another one */
	FR_NEED_LORA,	/* and FR_LORAS - 1 more: the matrix has an adapter */
	FR_NEEDS = FR_NEED_LORA + FR_LORAS
};

struct fr_name_row {
	const char *role; /* "text.layer.q": for messages */
	enum fr_part part;
	int per_layer; /* the name holds one %d, the field lies in the layer's struct */
	/* of the struct fr_tensor in the part's struct, or in the layer's; where the second is not 0, the tensor's rows
	 * are the three fields', a third each */
	size_t offset[3];
	enum fr_need need;
	enum fr_size shape[4];
	const char *name[FR_SCHEMES]; /* after the place's prefix */
};
struct fr_name_place {
	enum fr_part part;
	const char *branch; /* fr_vit_desc.role that may lie here; NULL: the part is not of a branch */
	enum fr_scheme scheme;
	enum fr_from from;
	const char *prefix;
	const char *origin;
};
extern const struct fr_name_row fr_name_rows[];
extern const size_t fr_name_row_count;
extern const struct fr_name_place fr_name_places[];
extern const size_t fr_name_place_count;
/* The name of the row's tensor at that place into buf; "" if the place's scheme has none. */
void fr_name_text(const struct fr_name_place *place, const struct fr_name_row *row, int layer, char *buf, size_t size);
/* The file of its own in which the place is; NULL for one in the checkpoint, or without its file. */
const char *fr_name_file(struct fr_store *const from[FR_FROMS], const struct fr_name_place *place);
/* Does the place hold tensors of that part and branch? branch may be NULL where the part is of none. */
int fr_name_is_place(const struct fr_name_place *place, enum fr_part part, const char *branch);

#endif
