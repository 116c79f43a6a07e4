/* torch.save files (.bin, .pth, .pt): a zip archive with a pickle of the names and one stored member per storage. */
#ifndef FR_WEIGHTS_TORCH_H
#define FR_WEIGHTS_TORCH_H

#include "weights.h"

/* Does the file's name end as torch's files do (an old format is refused as such then), or is it a zip archive under
 * any name? */
int fr_torch_is(const char *file, const uint8_t *bytes, size_t size);
/* As fr_safetensors_parse: bytes [size] and file stay the caller's and must outlive the views, which lie in bytes or,
 * where torch's view is in another order than its shape, in copies that out owns; tied tensors may share their data. The
 * file holds a dict of tensors, or one below its key "model" or "state_dict"; what else stands beside the tensors is left
 * alone. Nothing in the file is executed. Refused, one sentence each: what zip.h and pickle.h refuse, files from before
 * torch 1.6, big-endian files, tensors that reach out of their storage or would need more copies than the file is large,
 * storages of another size than their member, names twice. */
int fr_torch_parse(const uint8_t *bytes, size_t size, const char *file, struct fr_tensors *out, struct fr_error *err);

/* data and bytes of t (name, file, dtype and shape are set), a view of a storage of `room` items: its first item, its
 * strides in items, none below 0. In place, or copied into owner as long as its copies stay within `limit` bytes. */
int fr_torch_view(const uint8_t *storage, uint64_t room, int64_t begin, const int64_t *strides, struct fr_tensor *t,
		  size_t limit, struct fr_tensors *owner, struct fr_error *err);

#endif
