/* fr.h: the public boundary of libfr-run, the same that the command line uses.
 *
 * A model is the mapped weights with their description: immutable once loaded, shared by sessions. A session is one
 * device with its KV cache and buffers, planned and taken once; it judges images and may be used by one thread at a
 * time. All functions that return int return 0, or -1 with one sentence in *err. Strings are UTF-8, NUL-terminated. */
#ifndef FR_H
#define FR_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FR_VERSION "0.1.0"

enum fr_code {
	FR_OK,
	FR_E_USAGE,   /* an option or argument that cannot be meant */
	FR_E_MODEL,   /* checkpoint, config or tokenizer missing, damaged or of another architecture */
	FR_E_DEVICE,  /* a backend or an instruction set that is not there */
	FR_E_MEMORY,  /* not enough memory, with the number asked for */
	FR_E_NUMBERS, /* logits that are not finite */
	FR_E_IO,      /* a file that cannot be opened, read or written */
	FR_E_FORMAT,  /* bytes that are no image, or an image format that is not read */
	FR_E_DAMAGED, /* a truncated or corrupt image */
	FR_E_LIMIT    /* an image above --max-pixels or outside the supported proportions */
};
struct fr_error {
	enum fr_code code;
	char text[1024];
};
/* "usage", "model", "device", "memory", "numbers", "io", "format", "damaged", "limit": the `code` of a JSON error. */
const char *fr_code_name(enum fr_code code);

/* ---- model ---------------------------------------------------------------------------------------------------- */
struct fr_model;
struct fr_model_opts {
	const char *path; /* a directory, or "demo" for the model inside the binary */
	const char *vision_tower; /* directory of a CLIP of its own; NULL: where the model's config.json says */
	const char *dino;         /* file of DINOv2's weights; NULL: looked for beside the others */
	const char *base;         /* directory that a LoRA checkpoint was trained on; NULL: where it says */
	int spare_ok;             /* one of these that the model has no use for is passed over instead of refused */
};
int fr_model_load(const struct fr_model_opts *opts, struct fr_model **out, struct fr_error *err);
void fr_model_free(struct fr_model *model);
struct fr_session_opts;
/* The report of `fr-run info`: for people (json = 0) or as one JSON object, with the memory that a session with opts
 * (NULL: all defaults) would take. check = 1 also reads every weight and fails naming the first tensor with a value
 * that is not finite. */
int fr_model_info(const struct fr_model *model, const struct fr_session_opts *opts, FILE *out, int json, int check,
		  struct fr_error *err);
/* The same of a model that cannot be loaded because parts of it are missing: where each is or was looked for, and what
 * the others say. 1: reported; 0: no part is missing, nothing is written; -1: an error. */
int fr_model_info_missing(const struct fr_model_opts *opts, FILE *out, int json, struct fr_error *err);
int fr_model_is_demo(const struct fr_model *model);
const char *fr_model_name(const struct fr_model *model);    /* "fakevlm-7b", or the directory's own name */
const char *fr_model_hash(const struct fr_model *model);    /* 64 hex digits: config, tokenizer, tensor table and
                                                               a fixed sample of every tensor's bytes (docs/MODEL.md) */
const char *fr_model_dtype(const struct fr_model *model);   /* "bf16", "f16", "f32" or "mixed" */
const char *fr_model_preprocess(const struct fr_model *model); /* preprocess id, e.g. "pil-bicubic-crop336-clip" */

/* ---- tokenizer of a model, without its weights ------------------------------------------------------------------ */
struct fr_tokenizer;
int fr_tokenizer_load(const char *model_path, struct fr_tokenizer **out, struct fr_error *err);
/* The same where a LoRA checkpoint's tokenizer may be that of its base. */
int fr_model_tokenizer(const struct fr_model_opts *opts, struct fr_tokenizer **out, struct fr_error *err);
void fr_tokenizer_free(struct fr_tokenizer *tok);
/* text [len] bytes, NUL and invalid UTF-8 allowed (a byte that is no part of a character becomes its <0xNN> piece) ->
 * malloc'd *ids [*n], the caller frees. bos 1: with what the checkpoint puts around a text (bos, or as it says). */
int fr_tokenizer_encode(const struct fr_tokenizer *tok, const char *text, size_t len, int bos, int32_t **ids, size_t *n,
			struct fr_error *err);
/* The piece of an id as the vocabulary spells it ("▁fake", "<0x0A>"), not NUL-terminated; -1 if id is out of range. */
int fr_tokenizer_piece(const struct fr_tokenizer *tok, int32_t id, const char **piece, size_t *len);
/* ids -> malloc'd bytes *text [*len] (+1 NUL), as the model's text: byte pieces joined, the leading space kept away
 * as the reference does. */
int fr_tokenizer_decode(const struct fr_tokenizer *tok, const int32_t *ids, size_t n, char **text, size_t *len,
			struct fr_error *err);

/* ---- images ---- */
/* Do a file's first bytes (4096 are enough) say that it is an image, of a format that is read or only known by name? */
int fr_is_image(const void *bytes, size_t size);

/* ---- session ---------------------------------------------------------------------------------------------------- */
struct fr_session;
struct fr_sampler {
	float temperature; /* 0: greedy */
	int top_k;         /* 0: all */
	float top_p;       /* 1: all */
	uint64_t seed;
};
struct fr_calibration {
	double temperature, bias; /* P(fake) = sigmoid((l_fake - l_real) / temperature + bias) */
	int fitted;               /* 1: fitted for this model's hash; 0: the built-in default */
	char hash[65];            /* sha256 of the calibration file, "" if none */
};
/* Reads a calibration JSON file {"schema":1,"model_hash":...,"temperature":T,"bias":b}; refused when model_hash is not
 * that of the model. */
int fr_calibration_load(const char *path, const struct fr_model *model, struct fr_calibration *out, struct fr_error *err);

struct fr_session_opts {
	const char *backend;    /* "auto", "cpu", "cuda"; NULL: auto */
	const char *isa;        /* "ref", "avx2", ...; NULL: the best this machine has. "avx2": the same bits on all */
	int threads;            /* 0: as many as this process may run on */
	int batch;              /* texts that are written together; 0: as the device does best and has memory for, and no
				   more than `images` need */
	size_t images;          /* how many will be judged, at most; 0: not known */
	int gpu_layers;         /* decoder layers whose weights lie in the device's memory, the others stay on the host;
				   0: all, -1: none. Nothing to a device that computes in host memory */
	int precise;            /* activations in twice 16 bits where a device rounds them to 16 bits */
	int no_cublas;          /* on CUDA: our own matrix products everywhere */
	int max_tokens;         /* generated tokens at most; 0: 512 */
	int verdict_only;       /* stop after the verdict logits */
	int kv_f32;             /* KV cache in float32 instead of float16 */
	int authors_rule;       /* verdict from the text by the authors' rule */
	const char *const *prompts; /* [n_prompts] questions, all put to each image; read while the session is opened */
	int n_prompts;          /* 0: the model's own question */
	const char *chat;       /* "raw", "llava", "llava_v1"; NULL: the model's own */
	const char *ids_file;   /* safetensors with `input_ids` (expanded), fed instead of a prompt; NULL: none */
	struct fr_sampler sampler;
	struct fr_calibration calibration; /* temperature 0: the model's default */
	double threshold;       /* p_fake >= threshold is fake; 0: 0.5 */
	double band_lo, band_hi; /* lo <= p < hi is inconclusive; both 0: no band */
	uint64_t max_pixels;    /* 0: 178956970, Pillow's own bomb limit */
#define FR_MAX_SPECULATE 15
	int speculate;          /* tokens of greedy text that are proposed ahead and checked together: 0: as many as pay,
				   -1: none, 1 to FR_MAX_SPECULATE: that many wherever there is a proposal. No result depends on it */
	const char *draft_from; /* texts to learn proposals from: lines of --json, or one text a line; NULL: only those
				   that the session writes */
	int heat;               /* results come with where the encoder looked */
	FILE *plan;             /* the memory plan goes there before anything is taken; NULL: nowhere */
};
int fr_session_new(const struct fr_model *model, const struct fr_session_opts *opts, struct fr_session **out,
		   struct fr_error *err);
void fr_session_free(struct fr_session *s);
/* What a session with these options would take on its device besides the weights, in bytes, nothing taken; its table goes
 * to `table` unless that is NULL. */
int fr_session_measure(const struct fr_model *model, const struct fr_session_opts *opts, FILE *table, size_t *bytes,
		       struct fr_error *err);
/* The memory plan (name, shape, dtype, bytes, lifetime) as it was taken. */
void fr_session_plan(const struct fr_session *s, FILE *out);
const char *fr_session_backend(const struct fr_session *s);     /* "cpu", "cuda" */
const char *fr_session_device(const struct fr_session *s);      /* "NVIDIA H200"; NULL on the CPU */
const char *fr_session_isa(const struct fr_session *s);         /* "avx2", "sm_90", "sm_90+cublaslt" */
const char *fr_session_passed_over(const struct fr_session *s); /* why "auto" did not take the GPU, "" if it did */
const char *fr_session_lowered(const struct fr_session *s);     /* why the CPU's best level is not in use although nobody
								   asked for a lower one, "" if it is */
const char *fr_session_streamed(const struct fr_session *s);    /* "" when all weights stay in memory, else a sentence */
const char *fr_session_kv(const struct fr_session *s);          /* "f16" */
const char *fr_session_activations(const struct fr_session *s); /* "f32", "bf16", "2xbf16", "16bit", "2x16bit" */
int fr_session_batch(const struct fr_session *s);               /* texts that are written together */
/* Tokens written ahead of their own step since the session was opened. */
struct fr_speculation {
	uint64_t steps;    /* decode steps of a sequence */
	uint64_t proposed; /* tokens that took part in them as rows of their own */
	uint64_t taken;    /* of these, the ones that were right */
};
struct fr_speculation fr_session_speculation(const struct fr_session *s);
int fr_session_prompts(const struct fr_session *s);             /* how many questions each image is asked */
const char *fr_session_prompt(const struct fr_session *s, int i); /* the text as it is fed, "<image>" included */
const char *fr_session_chat(const struct fr_session *s);

enum fr_verdict { FR_NONE, FR_REAL, FR_FAKE, FR_INCONCLUSIVE, FR_UNPARSED };
const char *fr_verdict_name(enum fr_verdict v); /* "real", "fake", "inconclusive", "unparsed"; NULL for FR_NONE */

/* What a model that reasons looks at: lighting and shadows, edges, texture, image quality, semantic rationality. The part
 * of its text that speaks of it, as offsets in bytes. */
#define FR_ATTRIBUTES 5
struct fr_attribute {
	const char *name; /* fr_attribute_name of its place */
	size_t at, len;   /* len 0: the text does not speak of it */
};
const char *fr_attribute_name(int i); /* "lighting_and_shadows", ...: static; NULL from FR_ATTRIBUTES on */

#define FR_MAX_WARNINGS 8
/* What was found about one image; strings live as long as the callback runs. */
struct fr_result {
	size_t index;            /* the job's number, from 0 in input order */
	int prompt;              /* which of the session's prompts */
	const char *sha256;      /* of the file's bytes, 64 hex digits; NULL if it could not be read */
	enum fr_verdict verdict;
	int has_score;           /* p_fake and the logits are there: always, but of a model that reasons only when its text
				    reaches the conclusion */
	double p_fake;
	int calibrated;
	float logit_real, logit_fake;
	/* Models that reason have two scores: read off their own text where it reaches the conclusion, and forced right
	 * after the prompt. p_fake and its logits are the first, or the second under verdict_only. */
	int has_reasoned, has_direct;
	double p_fake_reasoned, p_fake_direct;
	struct fr_attribute attributes[FR_ATTRIBUTES];
	int n_attributes;        /* FR_ATTRIBUTES of such a model's text, else 0 */
	const float *heat;       /* [heat_side, heat_side] share of the encoder's last attention that each patch has, by rows;
				    NULL unless asked for */
	int heat_side;
	const char *opening;     /* "own", "forced" or NULL */
	const char *text;        /* NULL under verdict_only */
	size_t text_len;
	enum fr_verdict text_verdict; /* FR_NONE under verdict_only */
	const char *stop;        /* "eos", "length", "verdict" or NULL */
	int prompt_tokens, generated_tokens; /* 0 prompt tokens: nothing was computed */
	const char *warnings[FR_MAX_WARNINGS];
	int n_warnings;
	struct fr_error error;   /* code FR_OK if all is well */
	double ms_image, ms_vision, ms_prefill, ms_decode; /* of the calls that it was in, alone or with others; an image is
				    decoded and encoded for its first prompt, and the others have 0 there */
};

/* Where images come from and where results go. next() fills one job and returns 1, or 0 at the end: bytes, which stay
 * the caller's and are read before next() is called again, or, with bytes NULL, an error that becomes the result. It is
 * called for as many images as can be at work or read ahead; ready() says whether it would return at once (NULL: always),
 * and while it says no, next() is called only when there is nothing else to do. Results come in input order, one for each
 * prompt of an image, in their order. text() streams whole UTF-8 characters of the first unfinished result in that order,
 * which is the one of the last begin(); it may be NULL.
 * stopped() is polled between tokens: non-zero ends the run after the results that are complete; may be NULL. */
struct fr_job {
	const uint8_t *bytes;
	size_t size;
	struct fr_error error;
};
struct fr_io {
	void *user;
	int (*next)(void *user, struct fr_job *job);
	/* The image was seen and its text follows; verdict and score are known but of a model that reasons, whose direct
	 * score alone is. May be NULL. */
	void (*begin)(void *user, size_t index, const struct fr_result *so_far);
	void (*text)(void *user, size_t index, const char *utf8, size_t len);
	void (*result)(void *user, const struct fr_result *r);
	int (*stopped)(void *user);
	int (*ready)(void *user);
};
/* Judges all images of io. -1 only when the run itself cannot go on (device, numbers, memory): a bad image is a result
 * with an error. */
int fr_judge(struct fr_session *s, const struct fr_io *io, struct fr_error *err);

/* One image in memory to one result: fr_judge for those who have just one, and one prompt. text_out gets a malloc'd copy (or NULL); the
 * heat is not kept. */
int fr_judge_one(struct fr_session *s, const uint8_t *bytes, size_t size, struct fr_result *out, char **text_out,
		 struct fr_error *err);

/* ---- where the encoder looked ---- */
/* The picture in a file's bytes with heat [heat_side, heat_side] of its result (fr_session_opts.heat) over it, and a
 * caption that says what that is: malloc'd *png [*png_size], a PNG file that the caller frees. max_pixels as in
 * fr_session_opts. The same bytes for the same picture, heat and model. */
int fr_heatmap(const struct fr_model *model, const uint8_t *bytes, size_t size, uint64_t max_pixels, const float *heat,
	       int heat_side, uint8_t **png, size_t *png_size, struct fr_error *err);

/* ---- intermediates, for porters --------------------------------------------------------------------------------- */
struct fr_dump_opts {
	const uint8_t *image; /* file bytes; NULL with pixels_file */
	size_t image_size;
	const char *pixels_file; /* safetensors with `pixels`, instead of an image; NULL: none */
	const char *tap;         /* fnmatch over the full names; NULL: the names of docs/DESIGN.md, section Taps */
	int max_tokens;          /* K greedy steps */
};
int fr_dump(struct fr_session *s, const struct fr_dump_opts *opts, const char *out_path, struct fr_error *err);
/* Compares two dumps tensor by tensor, reports to out; 0 within rel, 1 beyond, 2 names or shapes differ, -1 error. */
int fr_diff(const char *path_a, const char *path_b, double rel, FILE *out, struct fr_error *err);

/* ---- this machine ------------------------------------------------------------------------------------------------- */
/* One line: CPU name, levels found, and the one that a session with this isa uses (NULL: the best), or why it cannot. */
int fr_machine(const char *isa, char *buf, size_t size);
/* The backends of this build: "cpu", or "cpu, cuda (sm_80 sm_89 sm_90 compute_90, nvcc 13.0)". Returns buf. */
const char *fr_backends(char *buf, size_t size);
/* One line: the GPU that a session would use and its memory; or -1 and why there is none. */
int fr_gpu(char *buf, size_t size);
/* Known answers on this machine's backends; prints `ok`/`FAIL` lines to out; -1 if one failed. */
int fr_selftest(FILE *out, struct fr_error *err);

#ifdef __cplusplus
}
#endif
#endif
