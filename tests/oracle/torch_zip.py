"""Goldens of the torch reader: files as torch.save writes them, and their tensors as safetensors.

usage: torch_zip.py GOLDEN     writes GOLDEN/torch/
want.safetensors holds what flat.bin, nested.pth and protocol4.bin hold alike. The bytes of the .bin files depend on the
version of torch (the members beside data.pkl came one by one); their tensors do not: tests/golden/torch-2.1.2/flat.bin
is this script's, by that version.

flat.bin          a state dict as nn.Module makes it (OrderedDict with _metadata), a Parameter, tied tensors, views
nested.pth        the same under "model", beside what a training script leaves there
protocol4.bin     a plain dict, pickle protocol 4
views.bin         tensors whose items lie in another order than their shapes say; views.safetensors: the same in order
code.bin          a pickle that would run a command when loaded: to be refused, by name
"""

import collections
import os
import sys

import torch
from safetensors.torch import save_file

out = os.path.join(sys.argv[1], "torch")
os.makedirs(out, exist_ok=True)


class Code:
    def __reduce__(self):
        return os.system, ("echo executed",)


def state():
    g = torch.Generator().manual_seed(5)
    table = torch.randn(6, 4, generator=g)
    d = collections.OrderedDict()
    d["embed.weight"] = table
    d["head.weight"] = table  # tied
    d["rows.2-4"] = table[2:5]  # a view from item 8 on
    d["row.last"] = table[5]
    d["plane"] = table[1:2].view(1, 2, 2)
    d["column.of.one"] = torch.randn(3, generator=g).view(3, 1)
    d["half"] = torch.randn(3, 5, generator=g).half()
    d["bfloat"] = torch.randn(2, 3, 1, 2, generator=g).bfloat16()
    d["double"] = torch.randn(2, generator=g, dtype=torch.float64)
    d["ids"] = torch.arange(-2, 3)
    d["small"] = torch.tensor([[-1, 2], [3, -4]], dtype=torch.int8)
    d["bytes"] = torch.tensor([0, 127, 255], dtype=torch.uint8)
    d["short"] = torch.tensor([-300, 300], dtype=torch.int16)
    d["int"] = torch.tensor([1 << 30], dtype=torch.int32)
    d["flags"] = torch.tensor([True, False, True])
    d["scalar"] = torch.tensor(0.5)
    d["empty"] = torch.empty(0, 7)
    d["parameter"] = torch.nn.Parameter(torch.randn(4, generator=g))
    d["Grüße"] = torch.ones(1)
    return d


flat = state()
flat._metadata = collections.OrderedDict({"": {"version": 1}, "embed": {"version": 2}})
torch.save(flat, f"{out}/flat.bin")
torch.save({"epoch": 12, "lr": 1e-4, "steps": 1 << 40, "name": "x", "args": [1, (2, 3), None, True], "model": state()},
           f"{out}/nested.pth")
torch.save(dict(state()), f"{out}/protocol4.bin", pickle_protocol=4)
a = torch.randn(6, 8, generator=torch.Generator().manual_seed(6))
views = {
    "transposed": a.t(),
    "transposed.half": a.half().t(),
    "columns": a[:, 2:5],
    "every.other": a[1::2, ::3],
    "expanded": a[2:3].expand(3, 8),
    "permuted": a.view(2, 3, 4, 2).permute(3, 0, 2, 1),
    "channels.last": torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(7)).to(memory_format=torch.channels_last),
    "ids": torch.arange(12).view(3, 4).t(),
    "one.column": a[:, 7:8],
    "in.order": a[3:5],
}
torch.save(views, f"{out}/views.bin")
save_file({k: v.contiguous().clone() for k, v in views.items()}, f"{out}/views.safetensors")
torch.save({"w": torch.ones(2), "x": Code()}, f"{out}/code.bin")
save_file({k: v.detach().clone() for k, v in state().items()}, f"{out}/want.safetensors")
