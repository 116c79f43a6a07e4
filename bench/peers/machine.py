"""The machine that a comparison ran on; precedence for one process of it, and whether it had its CPUs to itself."""

import os
import platform
import sys
import time

DISTURBED = 0.06  # of its time on each CPU; a real-time process of Linux loses 5 % by design
TRIES = 5


def about_machine():
    cpu, flags = platform.machine(), ""
    with open("/proc/cpuinfo") as f:
        for line in f:
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                cpu = value.strip()
            elif key.strip() == "flags" and not flags:
                wanted = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16")
                flags = " ".join(w for w in wanted if w in value.split())
    with open("/proc/meminfo") as f:
        kib = int(f.readline().split()[1])
    return dict(cpu=cpu, flags=flags, cpus=len(os.sched_getaffinity(0)), memory_gib=round(kib / 2**20, 1),
                system=platform.release())


def turn(realtime, pid, on):
    """All threads of a process (0: this one) ahead of ordinary work, as chrt -f 10 does, or back. Without the right to do
    so nothing happens."""
    if not realtime:
        return
    policy, priority = (os.SCHED_FIFO, 10) if on else (os.SCHED_OTHER, 0)
    try:
        for task in [0] if pid == 0 else os.listdir(f"/proc/{pid}/task"):
            os.sched_setscheduler(int(task), policy, os.sched_param(priority))
    except (PermissionError, ProcessLookupError, FileNotFoundError):
        pass


def waited(pid):
    """Seconds that a process's threads were ready to run and had no CPU, up to now."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                total += int(f.read().split()[1])
        except (FileNotFoundError, ProcessLookupError, IndexError):
            pass
    return total * 1e-9


def undisturbed(realtime, pid, threads, f):
    """f's answer, from a turn in which the process did not wait for a CPU that another had: up to TRIES of them, and the last
    counts whatever it was."""
    for i in range(TRIES):
        turn(realtime, pid, True)
        start, before = time.perf_counter(), waited(pid)
        answer = f()
        share = (waited(pid) - before) / (time.perf_counter() - start) / threads
        turn(realtime, pid, False)
        if share < DISTURBED:
            break
        if i == TRIES - 1:
            print(f"process {pid} waited for a CPU in {100 * share:.0f} % of its time, in the last try too", file=sys.stderr)
        time.sleep(i)
    return answer
