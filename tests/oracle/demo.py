"""The golden of record: what transformers 4.45.2 makes of the sample images with the demo model, in float32.

usage: demo.py GOLDEN [MODEL [SAMPLES]]     writes GOLDEN/demo/golden.safetensors, prints the table of docs/PORTING.md

For every picture of samples/: ids of the prompt and of the answer, the text, the logits after the prompt and at the
verdict, P(fake). For the first picture also the last row of every tap: the first numbers a port has to match
(docs/PORTING.md shows them). Every greedy choice must be clear by ten bounds.
"""

import math
import os
import sys

import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import LlamaTokenizer

import checkpoints
import llava

LIMIT = 96
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
KINDS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tga", ".ppm", ".pgm")


def pictures(samples):
    found = [os.path.relpath(os.path.join(d, f), samples) for d, _, files in os.walk(samples) for f in files
             if f.lower().endswith(KINDS) and not os.path.relpath(d, samples).startswith("out")]
    return sorted(found, key=os.fsencode)


def judge(model, tok, path, name, first):
    """-> {tensor name: tensor} of one picture"""
    cfg = model.config
    n_image = (cfg.vision_config.image_size // cfg.vision_config.patch_size) ** 2
    ids = checkpoints.expand(tok(checkpoints.QUESTION)["input_ids"], cfg.image_token_index, n_image)
    opening, labels = ([tok.convert_tokens_to_ids(p) for p in ps]
                       for ps in (["▁This", "▁image", "▁is"], ["▁real", "▁fake"]))
    pixels, _ = llava.preprocess(path, Image.open(name))
    with torch.no_grad():
        rows = llava.embed(model, ids, llava.vision(model, pixels)["projector.out"])
    answer = llava.greedy(model, rows, {cfg.text_config.eos_token_id}, LIMIT)
    run = lambda m, p: llava.taps(m, p, ids, len(answer), opening, labels, answer)
    t = run(model, pixels)
    n, clean = llava.noise(model, lambda m: run(m, pixels.double()))
    llava.check_noise(os.path.basename(name), t, clean, n)
    top = t["steps.logits"].topk(2, -1).values
    margin, bound = float((top[:, 0] - top[:, 1]).min()), 2 * llava.SIGMAS * n["steps.logits"][1]
    if margin < llava.MARGIN * bound:
        raise SystemExit(f"{name}: a greedy choice is decided by {margin:.2e}, only {margin / bound:.1f} bounds: "
                         "take another sample image")
    real, fake = t["verdict.logits"].tolist()
    text = tok.decode(answer, skip_special_tokens=True)
    out = {"input_ids": torch.tensor(ids, dtype=torch.int32), "answer": torch.tensor(answer, dtype=torch.int32),
           "text": torch.tensor(list(text.encode()), dtype=torch.uint8),
           "p_fake": torch.tensor([1 / (1 + math.exp(real - fake))], dtype=torch.float64)}
    print(f"{name}: P(fake) {float(out['p_fake']):.6f}, margin {margin / bound:.0f} bounds: {text}")
    for k in t:
        keep = k in ("logits", "verdict.logits") or first and k not in ("steps.logits", "steps.ids")
        if keep:
            row = t[k] if t[k].dim() == 1 else t[k][-1]
            out[k] = row
            out["noise." + k] = torch.tensor([n[k][1] * len(row) ** 0.5 / float(row.norm()), n[k][1]])
    return out


def table(t):
    """Markdown: tap, first values of the last row, its rms."""
    yield "| tap | first four values of the last row | rms of the row |"
    yield "|---|---|---|"
    for k, v in t.items():
        if v.dtype == torch.float32 and not k.startswith("noise."):
            yield f"| `{k}` | {' '.join(f'{x:.6g}' for x in v[:4].tolist())} | {float(v.pow(2).mean().sqrt()):.6g} |"


def main():
    out = os.path.join(sys.argv[1], "demo")
    path = sys.argv[2] if len(sys.argv) > 2 else os.path.join(ROOT, "weights", "demo", "model")
    samples = sys.argv[3] if len(sys.argv) > 3 else os.path.join(ROOT, "samples")
    torch.set_num_threads(1)
    model = llava.load(path)
    tok = LlamaTokenizer.from_pretrained(path)
    tensors, lines = {}, []
    for name in pictures(samples):
        t = judge(model, tok, path, os.path.join(samples, name), not tensors)
        if not tensors:
            lines = [f"samples/{name}, {len(t['input_ids'])} prompt positions, answer "
                     f"{' '.join(map(str, t['answer'].tolist()))}", ""] + list(table(t))
        # "noise.X" stays in front, so that compare.py and the test find it by the one rule
        tensors.update({("noise." + name + ":" + k[6:] if k.startswith("noise.") else name + ":" + k):
                        v.detach().contiguous().clone() for k, v in t.items()})
    if not tensors:
        raise SystemExit(f"{samples}: no pictures")
    os.makedirs(out, exist_ok=True)
    save_file(tensors, os.path.join(out, "golden.safetensors"), metadata={"format": "pt"})
    print("\n".join(lines))


if __name__ == "__main__":
    main()
