"""Goldens of the resized position table: torch's interpolate, called as DINOv2's interpolate_pos_encoding calls it.

usage: positions.py GOLDEN     writes GOLDEN/positions/resized.safetensors
table.SIDE.DIM [1 + SIDE^2, DIM] and resized.SIDE.DIM.TO [1 + TO^2, DIM]. The bits are those of torch's AVX2 and AVX-512
code, which are alike; its plain code (ATEN_CPU_CAPABILITY=default) has others.
"""

import os
import sys

import torch
from safetensors.torch import save_file

OFFSET = 0.1
out = os.path.join(sys.argv[1], "positions")
os.makedirs(out, exist_ok=True)


def resize(table, side, to):
    """w0, h0 = to + offset; the factors are taken from them, and the size of the result is what torch makes of it."""
    dim = table.shape[1]
    factor = float(to + OFFSET) / side
    grid = torch.nn.functional.interpolate(table[1:].reshape(1, side, side, dim).permute(0, 3, 1, 2),
                                           scale_factor=(factor, factor), mode="bicubic")
    assert grid.shape[-2:] == (to, to)
    return torch.cat([table[:1], grid.permute(0, 2, 3, 1).reshape(-1, dim)])


assert torch.backends.cpu.get_cpu_capability() != "DEFAULT", "torch's plain code has other bits"
g = torch.Generator().manual_seed(37)
tensors = {}
for side, dim, sizes in (37, 4, (24, 16, 36, 38)), (5, 3, (3, 4, 8)), (2, 5, (1, 9)), (1, 2, (3,)):
    table = torch.randn(1 + side * side, dim, generator=g)
    tensors[f"table.{side}.{dim}"] = table
    for to in sizes:
        tensors[f"resized.{side}.{dim}.{to}"] = resize(table, side, to).contiguous()
save_file(tensors, f"{out}/resized.safetensors")
