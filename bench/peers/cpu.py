"""fr-run beside Hugging Face transformers and llama.cpp on one CPU, with the same weights, in one run: cpu.py [options].

Every peer is a process that stays (worker.py; fr-run by --files-from -). A round runs each stage of each of them once, in
turn; all ratios are of the same round, and the median of the rounds and their spread are reported, because a shared machine
drifts by more than most differences. Then what concerns fr-run alone: --precise, one thread, the demo model.

The weights are random, of FakeVLM's real shapes (make_7b.py), with --layers of the 32 decoder layers: 4 of them take 3 GB
for each peer, and a layer's time does not depend on how many there are. Vision is whole. All 32: --layers 32 --apart, where only
fr-run and one peer are in memory together, 14 GB each. Made once in --work; the GGUF files and the float32 numbers for the comparison too.

Stages: vision (CLIP and projector, one picture), prefill (588 rows of the prompt and the opening's 3 at once, one row of logits),
decode (one token of 1 or 8 texts behind that prompt), start (process start to verdict, files in the page cache).
Prints tables and the bars with met or not met; --out FILE.json keeps everything. Exit 0 whatever the numbers are; 1 when
something to run is missing or a peer computed something else."""

import argparse
import datetime
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
import bars  # noqa: E402
from machine import about_machine, turn, undisturbed  # noqa: E402

FORMATS = ("bf16", "q8_0", "q4_0")
STEPS = 6


def say(text):
    print(text, flush=True)


def fail(text):
    sys.exit(f"bench-peers: {text}")


def run(command, **kw):
    r = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)
    if r.returncode:
        fail(f"{' '.join(command)} ended with {r.returncode}: {r.stderr.strip().splitlines()[-1:] or 'no word'}")
    return r.stdout


def bench_rows(a, *what):
    text = run([a.fr_run, "bench", *what, "--json"], preexec_fn=lambda: turn(a.realtime, 0, True))
    return [json.loads(t) for t in text.splitlines() if t.startswith("{")]


# ---- what is compared ----

class Files:
    """Everything that is made once."""

    def __init__(self, a):
        self.a, self.dir = a, os.path.join(a.work, f"layers-{a.layers}")
        self.hf, self.input = os.path.join(self.dir, "hf"), os.path.join(self.dir, "input.npz")
        self.reference = os.path.join(self.dir, "float32.npz")
        os.makedirs(self.dir, exist_ok=True)

    def gguf(self, part, kind):
        return os.path.join(self.dir, f"model-{part}-{kind}.gguf")

    def make(self, formats):
        if not os.path.exists(os.path.join(self.hf, "model.safetensors.index.json")):
            say(f"making {self.hf}")
            run([sys.executable, os.path.join(HERE, "make_7b.py"), self.hf, "--layers", str(self.a.layers)])
        for part, kind in [("vision", "bf16")] + [("language", k) for k in formats]:
            if formats and not os.path.exists(self.gguf(part, kind)):
                say(f"making {self.gguf(part, kind)}")
                run([sys.executable, os.path.join(HERE, "gguf_files.py"), self.hf, os.path.join(self.dir, "model"),
                     "--part", part, "--type", kind])
        self.prepare()

    def prepare(self):
        """The picture and the prompt as fr-run prepares them, and float32 transformers' numbers on them."""
        import numpy as np
        from safetensors.numpy import load_file
        info = json.loads(run([self.a.fr_run, "info", "-m", self.hf, "--json"]))
        if not os.path.exists(self.reference):
            taps = os.path.join(self.dir, "taps.safetensors")
            run([self.a.fr_run, "dump", "-q", "-m", self.hf, "--backend", "cpu", "--max-tokens", "0", "--tap", "[ip][nix]*",
                 self.a.picture, "-o", taps])
            t = load_file(taps)
            ids = np.concatenate([t["input_ids"], info["prompt"]["opening_ids"]]).astype(np.int64)
            given = dict(pixels=t["pixels"], u8=t["pixels.u8"], ids=ids, prompt=len(t["input_ids"]),
                         image_token=info["tokenizer"]["image"])
            np.savez(self.input, **given)
            say("float32 transformers, for the comparison")
            run(worker(self.a, "transformers", self.input, model=self.hf, reference=self.reference), env=environment(self.a))
            given["embedded"] = np.load(self.reference)["embedded"]
            np.savez(self.input, **given)
        self.rows = len(np.load(self.input)["ids"])


def worker(a, peer, given, **options):
    c = [sys.executable, os.path.join(HERE, "worker.py"), peer, given, "--threads", str(a.threads)]
    for k, v in options.items():
        c += [f"--{k}"] if v is True else [f"--{k}", v] if v else []
    return c


def environment(a):
    """What makes torch and llama.cpp use no more than the level."""
    e = dict(os.environ, OMP_NUM_THREADS=str(a.threads), HF_HUB_OFFLINE="1")
    if a.level != "best":
        e.update(ATEN_CPU_CAPABILITY=a.level, ONEDNN_MAX_CPU_ISA=dict(avx2="AVX2", avx512="AVX512_CORE")[a.level])
    if a.llama:
        e["PYTHONPATH"] = a.llama + (os.pathsep + e["PYTHONPATH"] if e.get("PYTHONPATH") else "")
    return e


class Peer:
    """A worker process."""

    def __init__(self, a, name, peer, files, **options):
        self.a, self.name = a, name
        self.command = worker(a, peer, files.input, **options)
        self.sees = peer != "llama.cpp" or "vision" in options
        self.stderr = open(os.path.join(files.dir, f"{name}.err".replace(" ", "-")), "w")
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr,
                                        text=True, env=environment(a), preexec_fn=lambda: turn(a.realtime, 0, True))
        self.about = self.read()["about"]
        turn(a.realtime, self.process.pid, False)

    def read(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        with open(self.stderr.name) as f:
            fail(f"{self.name} ended: {(f.read().strip().splitlines() or ['no word'])[-1]}")

    def ask(self, **order):
        def once():
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            return self.read()
        return undisturbed(self.a.realtime, self.process.pid, self.a.threads, once)

    def round(self):
        got = dict(vision=self.ask(stage="vision")["ms"]) if self.sees else {}
        got["prefill"] = self.ask(stage="prefill")["ms"]
        for n in (1, 8):
            got[f"decode {n}"] = statistics.median(self.ask(stage="decode", batch=n, steps=STEPS)["ms"])
        return got

    def start(self):
        """Process start to verdict, in milliseconds."""
        start = time.perf_counter()
        run(self.command + ["--once"], env=environment(self.a), preexec_fn=lambda: turn(self.a.realtime, 0, True))
        return (time.perf_counter() - start) * 1e3

    def take(self, path):
        import numpy as np
        self.ask(stage="take", out=path)
        return dict(np.load(path))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class FrRun:
    """fr-run reading paths from a pipe; every picture has bytes of its own behind the end, so nothing is remembered. Its
    decoding is that of `bench model`, a process for each round."""

    def __init__(self, a, files, threads=None, more=()):
        self.a, self.files, self.threads, self.count = a, files, threads or a.threads, 0
        self.how = ["-m", files.hf, "--backend", "cpu", "--threads", str(self.threads), *(["--isa", a.isa] if a.isa else []), *more]
        self.process = subprocess.Popen([a.fr_run, "-q", *self.how, "--json", "--timings", "--verdict-only", "--files-from", "-"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with open(a.picture, "rb") as f:
            self.picture = f.read()

    def fresh(self):
        self.count += 1
        path = os.path.join(self.files.dir, f"{self.process.pid}-{self.count}")
        with open(path, "wb") as f:
            f.write(self.picture + str(path).encode())
        return path

    def judge(self):
        path = self.fresh()
        self.process.stdin.write(path + "\n")
        self.process.stdin.flush()
        r = json.loads(self.process.stdout.readline() or "null")
        os.remove(path)
        if not r or r["error"]:
            fail(f"fr-run: {r['error'] if r else 'it ended'}")
        self.engine = r["engine"]
        return dict(vision=r["ms"]["vision"], prefill=r["ms"]["prefill"])

    def see(self):
        """Vision and prefill."""
        return undisturbed(self.a.realtime, self.process.pid, self.threads, self.judge)

    def round(self):
        got = self.see()
        for r in bench_rows(self.a, "model", self.a.picture, *self.how, "--batch", "8", "--seconds", "0.4",
                            "--filter", f"decode/b[18]_kv{self.files.rows}"):
            if r["what"] == "decode":
                got[f"decode {r['batch']}"] = r["ms"]
                if r["batch"] == 1:
                    got["share of reading"] = r["share_read"]
        return got

    def start(self):
        path = self.fresh()
        start = time.perf_counter()
        run([self.a.fr_run, "-q", *self.how, "--verdict-only", path], preexec_fn=lambda: turn(self.a.realtime, 0, True))
        ms = (time.perf_counter() - start) * 1e3
        os.remove(path)
        return ms

    def take(self):
        import numpy as np
        from safetensors.numpy import load_file
        out = os.path.join(self.files.dir, "fr-run.safetensors")
        run([self.a.fr_run, "dump", "-q", *self.how, "--max-tokens", "0", "--tap", "[lp][or][go]*", self.a.picture, "-o", out],
            preexec_fn=lambda: turn(self.a.realtime, 0, True))
        t = load_file(out)
        return dict(rows=np.asarray(t["projector.out"]), logits=np.asarray(t["logits"]).reshape(-1))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# ---- the run ----

def open_peer(a, files, name):
    if name in ("transformers", "transformers f32"):
        return Peer(a, name, "transformers", files, model=files.hf, dtype="float32" if name.endswith("f32") else "bfloat16")
    if name == "torch packed":
        return Peer(a, name, "transformers", files, model=files.hf, packed=True)
    if not name.startswith("llama.cpp ") or name.split()[1] not in FORMATS:
        fail(f"no peer is called {name}")
    kind = name.split()[1]
    sees = dict(vision=files.gguf("vision", "bf16")) if kind == "bf16" else {}
    return Peer(a, name, "llama.cpp", files, model=files.gguf("language", kind), **sees)


def distance(x, y):
    import numpy as np
    x, y = np.float64(x), np.float64(y)
    return float(np.linalg.norm(x - y) / np.linalg.norm(y))


def compare(files, name, got):
    """Relative L2 distances to float32 transformers. llama.cpp's decoder got the reference's image rows."""
    import numpy as np
    want = np.load(files.reference)
    d = dict(logits=distance(got["logits"][:len(want["logits"])], want["logits"]))
    if "rows" in got:
        d["rows"] = distance(got["rows"], want["rows"])
        d["rows, class row last"] = distance(got["rows"], want["rows_class_last"])
    say(f"  {name}: " + ", ".join(f"{k} {v:.2e}" for k, v in d.items()))
    return d


def measure(a, files, group, result):
    """Rounds of fr-run and the peers of one group."""
    ours = FrRun(a, files)
    peers = {}
    for name in group:
        say(f"starting {name}")
        peers[name] = open_peer(a, files, name)
        result["about"][name] = peers[name].about
    say("relative L2 distance to transformers in float32")
    if "fr-run" not in result["distance"]:
        result["distance"]["fr-run"] = compare(files, "fr-run", ours.take())
    for name, p in peers.items():
        result["distance"][name] = compare(files, name, p.take(os.path.join(files.dir, "taken.npz")))
    everyone = {"fr-run": ours, **peers}
    for i in range(a.rounds + 1):
        row = {name: everyone[name].round() for name in (list(everyone) if i % 2 else reversed(everyone))}
        say(f"round {i}{' (warm-up)' if i == 0 else ''}: " + "; ".join(
            f"{n} " + " ".join(f"{s} {bars.number(ms)}" for s, ms in row[n].items()) for n in everyone))
        if i:
            result["rounds"].append(row)
    result["about"]["fr-run"] = ours.engine
    for _ in range(a.starts):
        row = {"fr-run": dict(start=ours.start())}
        for name, p in peers.items():
            if p.sees:
                row[name] = dict(start=p.start())
        result["rounds"].append(row)
    if not result["gemm"]:
        products(a, ours, peers, result)
    for p in everyone.values():
        p.close()


def products(a, ours, peers, result):
    """Matrix products alone, each beside torch's: what is left when everything else costs nothing."""
    torch = next((peers[n] for n in ("torch packed", "transformers", "transformers f32") if n in peers), None)
    filters = "linear_bf16/m5[78]*" if torch else "linear_bf16/m588_n11008*"
    for row in bench_rows(a, "kernels", "--isa", ours.engine["isa"], "--seconds", "0.7", "-t", str(a.threads), "--filter", filters):
        shape = {s[0]: int(s[1:]) for s in row["name"].split("/")[1].split("_")}
        if torch:
            row.update(torch_ms=min(torch.ask(stage="product", **shape)["ms"]), torch=torch.about["dtype"])
        result["gemm"].append(row)


def alone(a, files, result):
    """What concerns fr-run only, again in turn."""
    runs = {"fr-run": FrRun(a, files)}
    if a.threads > 1:
        runs["1 thread"] = FrRun(a, files, threads=1)
    if result["about"]["fr-run"]["isa"] in ("avx512bf16", "amx"):
        runs["precise"] = FrRun(a, files, more=["--precise"])
    for i in range(a.own_rounds + 1):
        row = {name: r.see() for name, r in runs.items()}
        say(f"own round {i}: " + "; ".join(f"{n} " + " ".join(f"{s} {bars.number(v)}" for s, v in r.items()) for n, r in row.items()))
        if i:
            result["own"].append(row)
    for r in runs.values():
        r.close()
    times = []
    for _ in range(15):
        start = time.perf_counter()
        run([a.fr_run, "-q", "-m", "demo", "--backend", "cpu", "--verdict-only", *(["--isa", a.isa] if a.isa else []), a.picture],
            preexec_fn=lambda: turn(a.realtime, 0, True))
        times.append((time.perf_counter() - start) * 1e3)
    result["demo ms"] = times


def check(a):
    if not os.access(a.fr_run, os.X_OK):
        fail(f"{a.fr_run} is not there: make")
    missing = []
    for module, package in (("numpy", "numpy"), ("torch", "torch"), ("transformers", "transformers"),
                            ("safetensors", "safetensors"), ("sentencepiece", "sentencepiece"), ("gguf", "gguf")):
        if not importlib.util.find_spec(module):
            missing.append(package)
    if missing:
        fail(f"{sys.executable} has no {', '.join(missing)}: bench/peers/setup.sh DIR makes an environment, "
             "PYTHON=DIR/venv/bin/python names it")
    if any(p.startswith("llama") for p in a.peers) and subprocess.run(
            [sys.executable, "-c", "import llama_cpp.mtmd_cpp"], env=environment(a), stderr=subprocess.DEVNULL).returncode:
        fail("llama-cpp-python is not there (bench/peers/setup.sh), and --peers does not leave it out")


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--work", default=os.path.join(ROOT, "bench/results/tmp/peers"), help="where weights are made")
    p.add_argument("--layers", type=int, default=4)
    p.add_argument("--apart", action="store_true", help="one peer in memory at a time")
    p.add_argument("--peers", help="some of: transformers, transformers f32, torch packed, llama.cpp " + "|".join(FORMATS) +
                   " (default: all but f32; with --level avx2, where torch takes ten times as long for bf16, f32 and llama.cpp)")
    p.add_argument("--level", choices=("best", "avx512", "avx2"), default="best", help="what everyone may use")
    p.add_argument("--isa", help="fr-run's own level, where it is not that of --level")
    p.add_argument("--llama", help="a directory with another build of llama-cpp-python (pip install --target)")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--own-rounds", type=int, default=3, help="of what concerns fr-run alone; 0: none")
    p.add_argument("--starts", type=int, default=2)
    p.add_argument("--realtime", action="store_true", help="each process takes precedence over others' work in its turn (root)")
    p.add_argument("--fr-run", default=os.path.join(ROOT, "fr-run"))
    p.add_argument("--picture", default=os.path.join(ROOT, "samples/real-street-02.jpg"))
    p.add_argument("--out", help="everything as JSON")
    a = p.parse_args()
    if a.peers is None:
        torch = ["transformers f32"] if a.level == "avx2" else ["transformers", "torch packed"]
        a.peers = ",".join(torch + [f"llama.cpp {k}" for k in FORMATS])
    a.peers = [t.strip() for t in a.peers.split(",") if t.strip()]
    a.isa = a.isa or (a.level if a.level != "best" else None)
    return a


def main():
    a = options()
    check(a)
    files = Files(a)
    files.make([p.split()[1] for p in a.peers if p.startswith("llama")])
    result = dict(date=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), machine=about_machine(),
                  version=run([a.fr_run, "--version"]).splitlines()[0], layers=a.layers, threads=a.threads, level=a.level,
                  realtime=a.realtime, load=os.getloadavg(), rows=files.rows, about={}, distance={}, rounds=[], own=[], gemm=[])
    for group in [[p] for p in a.peers] if a.apart else [a.peers]:
        measure(a, files, group, result)
    if a.own_rounds:
        alone(a, files, result)
    result["load after"] = os.getloadavg()
    result["bars"] = bars.bars(result, files.hf)
    text = bars.report(result)
    say("\n" + text)
    if a.out:
        with open(a.out, "w") as f:
            json.dump(result, f, indent=1)
        with open(os.path.splitext(a.out)[0] + ".md", "w") as f:
            f.write(text)
    return bars.wrong(result)


if __name__ == "__main__":
    sys.exit(main())
