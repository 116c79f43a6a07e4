/* When logits are not finite: which tensor was the first. */
#ifndef FR_ENGINE_NUMBERS_H
#define FR_ENGINE_NUMBERS_H

#include "session.h"

/* 0 if x [n] is finite throughout. */
int fr_all_finite(const float *x, size_t n);
/* Fills *err (FR_E_NUMBERS) with the first weight that is not finite or, when all are, the first intermediate of the
 * picture with that question, which is run again; NULL: it went wrong in the decoded text. Always returns -1. where: "image 3". */
int fr_explain_numbers(struct fr_session *s, const struct fr_picture *pic, int question, const char *where, struct fr_error *err);

#endif
