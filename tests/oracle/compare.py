"""Are two folders of goldens the same? usage: compare.py COMMITTED NEW

File by file, by the bytes; where these differ, safetensors tensor by tensor and PNG by pixels. Integers and stored
weights must be equal; a float tensor of a golden (one with a `noise.` companion) may move by half the expected rounding
error, since the order of sums inside the reference follows the CPU and the alignment of its buffers; the noise estimates,
statistics of few runs, by half of themselves. Exit 1 and a line per difference otherwise.
"""

import os
import sys

import numpy as np
from PIL import Image
from safetensors.numpy import load_file


def tensors(path):
    try:
        return load_file(path)
    except (TypeError, KeyError, AttributeError):  # bf16: numpy has none, torch does
        import torch
        from safetensors.torch import load_file as load
        return {k: (v.view(torch.int16) if v.dtype == torch.bfloat16 else v).numpy() for k, v in load(path).items()}


def compare_tensors(a, b):
    a, b = tensors(a), tensors(b)
    for name in sorted(set(a) | set(b)):
        if name not in a or name not in b:
            yield f"{name}: only in {'NEW' if name in b else 'COMMITTED'}"
            continue
        x, y = a[name], b[name]
        if x.shape != y.shape or x.dtype != y.dtype:
            yield f"{name}: {x.dtype}{x.shape} against {y.dtype}{y.shape}"
        elif name.startswith("noise."):
            if (np.abs(x - y) > 0.5 * np.abs(x)).any():
                yield f"{name}: {x} against {y}"
        elif "noise." + name in a:
            d = np.linalg.norm((x - y).astype(np.float64)) / np.linalg.norm(x.astype(np.float64))
            if not d <= 0.5 * a["noise." + name][0]:
                yield f"{name}: relative distance {d:.3g}, expected error {a['noise.' + name][0]:.3g}"
        elif x.tobytes() != y.tobytes():
            yield f"{name}: {int((x != y).sum())} of {x.size} values differ"


def same_picture(a, b):
    try:
        x, y = Image.open(a), Image.open(b)
        return x.mode == y.mode and x.size == y.size and x.tobytes() == y.tobytes()
    except OSError:  # some are damaged on purpose
        return False


def compare_files(a, b):
    with open(a, "rb") as f, open(b, "rb") as g:
        if f.read() == g.read():
            return
    if a.endswith(".safetensors"):
        yield from compare_tensors(a, b)
    elif not (a.endswith(".png") and same_picture(a, b)):
        yield "bytes differ"


def walk(root):
    if os.path.isfile(root):
        return {""}
    return {os.path.relpath(os.path.join(d, f), root) for d, _, files in os.walk(root) for f in files}


def main():
    old, new = sys.argv[1:3]
    bad = 0
    old_files, new_files = walk(old), walk(new)
    for f in sorted(old_files | new_files):
        a, b = (os.path.join(r, f) if f else r for r in (old, new))
        if f not in old_files or f not in new_files:
            print(f"{a}: {'not committed' if f in new_files else 'no longer made'}")
            bad += 1
            continue
        for line in compare_files(a, b):
            print(f"{a}: {line}")
            bad += 1
    print(f"{old}: {len(old_files)} files, {bad} differences")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
