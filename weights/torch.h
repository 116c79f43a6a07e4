/* torch.save files (.bin, .pth, .pt): a zip archive with a pickle of the names and one stored member per storage. */
#ifndef FR_WEIGHTS_TORCH_H
#define FR_WEIGHTS_TORCH_H

#include "weights.h"

/* Does the file's name end as torch's files do? */
int fr_torch_is_name(const char *file);
/* As fr_safetensors_parse: bytes [size] and file stay the caller's and must outlive the views, which lie in bytes, in
 * the order of their data; tied tensors may share it. The file holds a dict of tensors, or one below its key "model" or
 * "state_dict"; what else stands beside the tensors is left alone. Nothing in the file is executed. Refused, one
 * sentence each: what zip.h and pickle.h refuse, files from before torch 1.6, big-endian files, tensors that are not
 * contiguous or reach out of their storage, storages of another size than their member, names twice. */
int fr_torch_parse(const uint8_t *bytes, size_t size, const char *file, struct fr_tensors *out, struct fr_error *err);

#endif
