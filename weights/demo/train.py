"""Trains the demo model, evaluates it and writes the checkpoint that is linked into fr-run.

    python train.py images CACHE           makes the training and held-out images (20000 and 1000), once
    python train.py train CACHE WORK       stages tower, decoder, joint; resumes from WORK/last.pt
    python train.py export WORK MODEL      rounds to bf16 and saves; tokenizer.model in MODEL is kept
    python train.py eval MODEL CACHE       accuracy, AUC, clue accuracy of the saved checkpoint on the held-out images
    python train.py samples DIR            writes the sample images
    python train.py show MODEL FILE...     verdict, P(fake) and text of any picture

The tower first learns, with temporary heads, which clue is in the image and in which patches; then projector and decoder
learn to say it while the tower stands still; then everything together. All in float32, seeded."""

import argparse
import io
import multiprocessing
import os
import time

import numpy as np
import torch
import torch.nn.functional as nnf
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

import form
import scenes
import texts

COUNTS = {"heldout": 1000, "train": 20000}
CHUNK = 500
GRID = form.IMAGE // form.PATCH
CLASSES = 1 + len(texts.CLUES)
SEED = 3
STAGES = [  # name, steps, batch, learning rates of (tower, projector and decoder)
    ("tower", 3000, 16, 6e-4, 0.0),
    ("decoder", 500, 16, 0.0, 1.5e-3),
    ("joint", 1200, 16, 3e-4, 8e-4),
]
# How often each class is drawn, while the tower learns alone and afterwards: the clues that lie in few patches and are
# learnt slowly come more often; and how much a patch of each weighs.
#                 real  grid  smooth melted shadow garbled bleed cloned
SHARE = {"tower": [0.36, 0.06, 0.05, 0.11, 0.15, 0.11, 0.05, 0.11],
         "later": [0.50, 0.06, 0.05, 0.07, 0.14, 0.06, 0.04, 0.08]}
WEIGHT = [0.4, 0.5, 0.5, 1.5, 2.5, 1.5, 0.5, 2.0]


# ---- images ----

def make_chunk(job):
    split, first, count, path = job
    if os.path.exists(path):
        return
    image = np.empty((count, form.IMAGE, form.IMAGE, 3), np.uint8)
    hit = np.empty((count, GRID, GRID), np.uint8)
    clue, scene = np.empty(count, np.int8), np.empty(count, np.int8)
    for i in range(count):
        data, _, truth, where = scenes.make(split, first + i)
        image[i] = scenes.fit(Image.open(io.BytesIO(data)).convert("RGB"), Image.BICUBIC)
        hit[i] = where.reshape(GRID, form.PATCH, GRID, form.PATCH).mean((1, 3)) > 0.2
        clue[i] = 0 if truth["clue"] is None else 1 + texts.CLUES.index(truth["clue"])
        scene[i] = texts.SCENES.index(truth["scene"])
    np.savez(path + ".tmp.npz", im=image, hit=hit, cl=clue, sc=scene)
    os.rename(path + ".tmp.npz", path)


def images(args):
    os.makedirs(args.cache, exist_ok=True)
    jobs = [(split, k, min(CHUNK, n - k), os.path.join(args.cache, f"{split}-{k:06d}.npz"))
            for split, n in COUNTS.items() for k in range(0, n, CHUNK)]
    with multiprocessing.Pool(2) as pool:
        for i, _ in enumerate(pool.imap_unordered(make_chunk, jobs)):
            print(f"{i + 1} of {len(jobs)} chunks", flush=True)


class Images:
    """All cached images of a split, in memory."""

    def __init__(self, cache, split):
        names = sorted(n for n in os.listdir(cache) if n.startswith(split) and n.count(".") == 1)
        parts = [np.load(os.path.join(cache, n)) for n in names]
        self.image, self.hit, self.clue, self.scene = (np.concatenate([p[k] for p in parts]) for k in ("im", "hit", "cl", "sc"))
        mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
        std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
        self.scale, self.shift = 1 / (255 * std), -mean / std

    def __len__(self):
        return len(self.clue)

    def pixels(self, at, flip=False):
        a = self.image[at]
        if flip:
            a = a[:, :, ::-1]
        return torch.from_numpy(np.ascontiguousarray(a)).permute(0, 3, 1, 2).float() * self.scale + self.shift


# ---- the model's parts in training ----

def seed_tower(model, data):
    """Starts the tower knowing what to look at, for a few thousand steps are too few to find it. The patch embedding
    begins as 128 cosine filters of unit response (sensor grain and grids lie in the high frequencies, which random
    filters hardly see beside the brightness); the first MLP as their magnitudes |x|, two neighbours in frequency summed
    into each of the 64 channels that the filters leave free."""
    n, p, filters = model.config.vision_config.hidden_size, form.PATCH, 128
    k = np.arange(p)
    cos = np.cos(np.pi * (k[None] + 0.5) * k[:, None] / p)
    order = sorted(((u, v) for u in range(p) for v in range(p)), key=lambda t: (t[0] + t[1], t))
    rng = np.random.default_rng(SEED)
    high = [order[i] for i in np.sort(rng.choice(np.arange(45, p * p), 45, replace=False))]
    tints = np.array([[1, 1, 1], [1, 0, -1], [-0.5, 1, -0.5]], np.float32)
    plan = [(f, 0) for f in order[:45] + high]
    plan += [(f, c) for c in (1, 2) for f in order[:10] + high[4::5]]
    assert len(plan) == filters
    w = np.stack([tints[c][:, None, None] * np.outer(cos[u], cos[v]) for (u, v), c in plan])
    w = torch.tensor(w, dtype=torch.float32)
    spread = nnf.conv2d(data.pixels(np.arange(256)), w, stride=p).pow(2).mean((0, 2, 3)).sqrt()
    v = model.vision_tower.vision_model
    v.embeddings.patch_embedding.weight.data[:] = 0
    v.embeddings.patch_embedding.weight.data[:filters] = w / spread.view(-1, 1, 1, 1)
    mlp, steep, i = v.encoder.layers[0].mlp, 2.0, torch.arange(filters)
    mlp.fc1.weight.data[:2 * filters] *= 0.1
    mlp.fc1.weight.data[i, i] = steep
    mlp.fc1.weight.data[filters + i, i] = -steep
    mlp.fc2.weight.data[filters:] *= 0.1
    for half in (0, filters):
        mlp.fc2.weight.data[:, half:half + filters] *= 0.1
        mlp.fc2.weight.data[filters + i // 2, half + i] = 0.7 / steep
    mlp.fc2.bias.data[filters:] = -1.0
    where = model.vision_tower.vision_model.embeddings.position_embedding.weight.data
    y, x = np.divmod(np.arange(GRID * GRID), GRID)
    f = 1 / 24.0 ** (np.arange(n // 4) / (n // 4))
    table = np.concatenate([g(np.outer(t, f * 1.5)) for t in (x, y) for g in (np.sin, np.cos)], 1)
    where[1:] = 0.4 * torch.tensor(table, dtype=torch.float32)


class QuickGelu(torch.nn.Module):
    """x sigmoid(1.702 x) by way of torch's silu: one pass instead of three."""

    def forward(self, x):
        return nnf.silu(1.702 * x) / 1.702


def tower(model, pixels):
    """vision_feature_layer -2 without the class token: [b, patches, hidden]; the last layer is not run."""
    v = model.vision_tower.vision_model
    h = v.pre_layrnorm(v.embeddings(pixels))
    for layer in v.encoder.layers[:-1]:
        h = layer(h, None, None)[0]
    return h[:, 1:]


class Heads(torch.nn.Module):
    """Temporary: the clue of each patch, and of the image from the mean."""

    def __init__(self, width):
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.patch, self.image = torch.nn.Linear(width, CLASSES), torch.nn.Linear(width, CLASSES)

    def forward(self, h):
        h = self.norm(h)
        return self.patch(h), self.image(h.mean(1))


class Talk:
    """Token ids of prompts and answers, as the processor makes them."""

    def __init__(self, tok):
        self.tok = tok
        self.eos = tok.eos_token_id
        self.cache = {}
        self.real, self.fake = (tok.convert_tokens_to_ids(p) for p in ("▁real", "▁fake"))

    def ids(self, prompt, clue, scene, variant):
        """(before the image, after it, length of the prompt's part after it)"""
        key = (prompt, clue, scene, variant)
        if key not in self.cache:
            start = self.tok(prompt).input_ids
            full = self.tok(prompt + " " + texts.answer(texts.CLUES[clue - 1] if clue else None, texts.SCENES[scene], variant)).input_ids
            assert full[:len(start)] == start
            at = start.index(form.PIECES)
            self.cache[key] = (full[:at], full[at + 1:] + [self.eos], len(start) - at - 1)
        return self.cache[key]


def say(model, talk, feats, rows):
    """The decoder's loss for rows of (prompt, clue, scene, variant), all with the same prompt; and verdict logits."""
    rows = [talk.ids(*r) for r in rows]
    n, ask = max(len(r[1]) for r in rows), rows[0][2]
    after = torch.full((len(rows), n), form.PIECES + 1)
    for i, r in enumerate(rows):
        after[i, :len(r[1])] = torch.tensor(r[1])
    before = torch.tensor(rows[0][0]).expand(len(rows), -1)
    embed = model.get_input_embeddings()
    x = torch.cat([embed(before), model.multi_modal_projector(feats), embed(after)], 1)
    h = model.language_model.model(inputs_embeds=x, use_cache=False).last_hidden_state
    logits = model.language_model.lm_head(h[:, -n + ask - 1:-1])
    target = after[:, ask:]
    loss = nnf.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view(target.shape)
    weight = (target != form.PIECES + 1).float()
    weight[:, 3] *= 6  # This image is >real<
    weight[:, 5:9] *= 3  # where the clue is decided
    return (loss * weight).sum() / weight.sum(), logits[:, 3, [talk.real, talk.fake]]


# ---- training ----

def groups(model, heads, lr_tower, lr_rest):
    towers = list(model.vision_tower.parameters())
    rest = list(model.multi_modal_projector.parameters()) + list(model.language_model.parameters())
    out = []
    for params, lr in ((towers, lr_tower), (list(heads.parameters()), lr_tower), (rest, lr_rest)):
        for p in params:
            p.requires_grad_(lr > 0)
        if lr > 0:
            out.append({"params": [p for p in params if p.dim() > 1], "lr": lr, "peak": lr, "weight_decay": 0.02})
            out.append({"params": [p for p in params if p.dim() <= 1], "lr": lr, "peak": lr, "weight_decay": 0.0})
    return out


def pick(data, stage, batch, rng):
    """The images of a batch."""
    share = np.array(SHARE["tower" if stage == "tower" else "later"])[data.clue] / np.bincount(data.clue)[data.clue]
    return rng.choice(len(data), batch, replace=False, p=share / share.sum())


def step_loss(stage, model, heads, talk, data, at, rng):
    flip = bool(rng.random() < 0.5)
    pixels, clue = data.pixels(at, flip), torch.from_numpy(data.clue[at]).long()
    notes = {}
    with torch.set_grad_enabled(stage != "decoder"):
        h = tower(model, pixels)
    loss = 0.0
    if stage != "decoder":
        hit = data.hit[at][:, :, ::-1] if flip else data.hit[at]
        hit = torch.from_numpy(np.ascontiguousarray(hit)).flatten(1).long()
        local = clue[:, None] * hit
        patch, image = heads(h)
        weight = torch.tensor(WEIGHT)
        loss = nnf.cross_entropy(patch.flatten(0, 1), local.flatten(), weight) + nnf.cross_entropy(image, clue)
        for k in range(CLASSES):
            if (clue == k).any():
                right = (image.argmax(1) == k)[clue == k].float()
                notes["of " + (["real"] + texts.CLUES)[k]] = (right.sum().item(), len(right))
        notes["clue"] = (image.argmax(1) == clue).float().mean().item()
        notes["tower"] = ((image.argmax(1) > 0) == (clue > 0)).float().mean().item()
        if stage == "joint":
            loss = 0.5 * loss
    if stage in ("decoder", "joint"):
        prompt = texts.LLAVA if rng.random() < 0.15 else texts.RAW
        rows = [(prompt, int(data.clue[i]), int(data.scene[i]), int(rng.integers(2))) for i in at]
        spoken, verdict = say(model, talk, h, rows)
        loss = loss + spoken
        notes["said"] = spoken.item()
        notes["verdict"] = (verdict.argmax(1) == (clue > 0)).float().mean().item()
    notes["loss"] = loss.item()
    return loss, notes


def train(args):
    torch.set_num_threads(2)
    data = Images(args.cache, "train")
    print(len(data), "training images", flush=True)
    os.makedirs(args.work, exist_ok=True)
    model = form.untrained(SEED)
    for name, p in model.language_model.named_parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=0.05)
    for layer in model.vision_tower.vision_model.encoder.layers:
        layer.mlp.activation_fn = QuickGelu()
    seed_tower(model, data)
    heads = Heads(model.config.vision_config.hidden_size)
    talk = Talk(form.processor(args.tokenizer).tokenizer)
    last = os.path.join(args.work, "last.pt")
    begin = {"stage": 0, "step": 0, "seconds": 0.0}
    if os.path.exists(last):
        begin = torch.load(last, weights_only=False)
        model.load_state_dict(begin["model"])
        heads.load_state_dict(begin["heads"])
    seconds, clock = begin["seconds"], time.time()
    for s in range(begin["stage"], len(STAGES)):
        stage, steps, batch, lr_tower, lr_rest = STAGES[s]
        steps = int(steps * args.scale)
        opt = torch.optim.AdamW(groups(model, heads, lr_tower, lr_rest), betas=(0.9, 0.99))
        first = begin["step"] if s == begin["stage"] else 0
        if first:
            opt.load_state_dict(begin["optimizer"])
        warm, sums = 60, {}
        for step in range(first, steps):
            rate = min((step + 1) / warm, 0.5 * (1 + np.cos(np.pi * step / steps)) * 0.98 + 0.02)
            for g in opt.param_groups:
                g["lr"] = g["peak"] * rate
            rng = np.random.default_rng([SEED, s, step])  # a resumed run goes on with the same draws
            loss, notes = step_loss(stage, model, heads, talk, data, pick(data, stage, batch, rng), rng)
            opt.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_([p for g in opt.param_groups for p in g["params"]], 1.0)
            opt.step()
            for k, v in notes.items():
                v, n = v if isinstance(v, tuple) else (v, 1)
                sums[k] = sums.get(k, np.zeros(2)) + (v, n)
            if step % 50 == 49:
                print(stage, step + 1, " ".join(f"{k} {v[0] / v[1]:.3f}" for k, v in sums.items()), f"{seconds + time.time() - clock:.0f} s", flush=True)
                sums = {}
            if step % 250 == 249 or step == steps - 1:
                torch.save({"stage": s, "step": step + 1, "seconds": seconds + time.time() - clock, "model": model.state_dict(),
                            "heads": heads.state_dict(), "optimizer": opt.state_dict()}, last + ".tmp")
                os.replace(last + ".tmp", last)
        begin["step"] = 0


# ---- export and evaluation ----

def export(args):
    last = torch.load(os.path.join(args.work, "last.pt"), weights_only=False)
    model = form.untrained(SEED)
    model.load_state_dict(last["model"])
    form.save(model, form.processor(args.tokenizer), args.model)
    print(f"after {last['seconds']:.0f} s of training")


def judge(model, proc, pictures, prompt=texts.RAW):
    """Greedy texts, and softmax(real, fake)[fake] after the forced opening, of a list of pictures."""
    tok = proc.tokenizer
    labels = [tok.convert_tokens_to_ids(p) for p in ("▁real", "▁fake")]
    with torch.no_grad():
        asked = proc(text=[prompt] * len(pictures), images=pictures, return_tensors="pt")
        out = model.generate(**asked, do_sample=False, max_new_tokens=100)
        said = tok.batch_decode(out[:, asked.input_ids.shape[1]:], skip_special_tokens=True)
        opened = proc(text=[prompt + " This image is"] * len(pictures), images=pictures, return_tensors="pt")
        pair = model(**opened).logits[:, -1, labels]
    return [t.strip() for t in said], pair.softmax(1)[:, 1].tolist()


def auc(score, positive):
    """The share of (positive, negative) pairs in the right order, ties half."""
    s, order = np.asarray(score), np.argsort(score, kind="stable")
    rank = np.empty(len(s))
    rank[order] = np.arange(1, len(s) + 1)
    for v in np.unique(s):
        rank[s == v] = rank[s == v].mean()
    p = np.asarray(positive)
    return (rank[p].sum() - p.sum() * (p.sum() + 1) / 2) / (p.sum() * (~p).sum())


def load(path):
    return LlavaForConditionalGeneration.from_pretrained(path, torch_dtype=torch.float32), AutoProcessor.from_pretrained(path)


def evaluate(args):
    torch.set_num_threads(2)
    model, proc = load(args.model)
    data = Images(args.cache, "heldout")
    n = min(args.count, len(data))
    said, p = [], []
    for k in range(0, n, 40):
        t, q = judge(model, proc, [Image.fromarray(a) for a in data.image[k:min(k + 40, n)]],
                     {"raw": texts.RAW, "llava": texts.LLAVA}[args.chat])
        said, p = said + t, p + q
    fake = data.clue[:n] > 0
    judged = np.array(p) >= 0.5
    names = ["real"] + texts.CLUES
    print(f"{n} held-out images, {fake.sum()} fake")
    print(f"accuracy {np.mean(judged == fake):.4f}  on real {np.mean(~judged[~fake]):.4f}  on fake {np.mean(judged[fake]):.4f}")
    print(f"AUC {auc(p, fake):.4f}")
    spoken = ["real" if t.startswith("This image is real.") else texts.named_clue(t) or "other" for t in said]
    opening = sum(t.startswith(("This image is real.", "This image is fake.")) for t in said)
    agree = sum((w == "real") == (not j) for w, j in zip(spoken, judged))
    print(f"texts that open in the form {opening} of {n}; text and probability agree {agree}")
    print(f"clue named correctly, of all fakes {np.mean([spoken[i] == names[data.clue[i]] for i in np.flatnonzero(fake)]):.4f}")
    print("%-9s" % "truth" + "".join("%9s" % c for c in names + ["other"]))
    for k, name in enumerate(names):
        rows = np.flatnonzero(data.clue[:n] == k)
        print("%-9s" % name + "".join("%9d" % sum(spoken[i] == c for i in rows) for c in names + ["other"]))
    for k, name in enumerate(texts.SCENES):
        rows = data.scene[:n] == k
        print(f"{name}: accuracy {np.mean((judged == fake)[rows]):.4f}")


def samples(args):
    """The sample images: the first held-out ones of each kind, as they come; no look at the model's answer."""
    os.makedirs(args.out, exist_ok=True)
    wanted = [("real-street", "jpg"), ("real-objects", "jpg"), ("real-landscape", "jpg"), ("real", "png")]
    wanted += [("fake-" + c, "jpg") for c in texts.CLUES] + [("fake", "webp")]
    index, seen = 0, {}
    while wanted:
        bytes_, suffix, truth, _ = scenes.make("heldout", index)
        names = ["fake-" + truth["clue"], "fake"] if truth["clue"] else ["real-" + truth["scene"], "real"]
        for w in wanted:
            if w[0] in names and w[1] == suffix:
                wanted.remove(w)
                kind = names[0]
                seen[kind] = seen.get(kind, 0) + 1
                with open(os.path.join(args.out, f"{kind}-{seen[kind]:02d}.{suffix}"), "wb") as f:
                    f.write(bytes_)
                print(f"held-out {index}: {kind}-{seen[kind]:02d}.{suffix}")
                break
        index += 1


def show(args):
    """What transformers says to files."""
    model, proc = load(args.model)
    for path in args.files:
        with Image.open(path) as f:
            said, p = judge(model, proc, [f.convert("RGB")])
        print(f"{os.path.basename(path)}  p_fake {p[0]:.9g}  {said[0]}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tokenizer", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "model/tokenizer.model"))
    sub = p.add_subparsers(dest="do", required=True)
    for name, run, names in (("images", images, ["cache"]), ("train", train, ["cache", "work"]), ("export", export, ["work", "model"]),
                             ("eval", evaluate, ["model", "cache"]), ("samples", samples, ["out"]), ("show", show, ["model"])):
        q = sub.add_parser(name)
        q.set_defaults(run=run)
        for n in names:
            q.add_argument(n)
        if name == "train":
            q.add_argument("--scale", type=float, default=1.0, help="multiplies the steps of every stage")
        if name == "eval":
            q.add_argument("--count", type=int, default=1000)
            q.add_argument("--chat", choices=["raw", "llava"], default="raw")
        if name == "show":
            q.add_argument("files", nargs="+")
    args = p.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
