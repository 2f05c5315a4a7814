#!/usr/bin/env python3
"""One coordinator and many workers on this machine, with trainers that compute nothing: how many trials a second it dispatches,
commits and answers, and what a worker costs it, idle and at work (runner/SCALING.md says what follows from that).

    ./tenfold bench worker_scaling [--workers 8,64,256] [--trials 20000] [--idle-seconds 10]

The trainers are those of the tests (tenfold-fake-trainer), for that many real ones need more memory than a small machine has.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from dispatch_benchmark import SPLITS, experiment_text
from product import LAUNCHER, PROGRAM, peak_memory_bytes, print_table, processes, query, ranks_below, stop, timed

TRAINER = pathlib.Path(PROGRAM).parent / "tenfold-fake-trainer"
IDLE = """name: idle
dataset: {kind: synthetic, samples: 4000, features: 4, classes: 3}
folds: {kind: stratified, k: 10, repeats: 30}
model: {kind: mlp, hidden: [8]}
train: {epochs: 100000}
ttt: {steps: 1}
resources: {max_array: 1}
"""


def start(folder, file, db, workers, *options, **variables):
    environment = {**os.environ, "TENFOLD_TRAINER": str(TRAINER), **variables}
    return subprocess.Popen([PROGRAM, "run", str(file), "--db", str(db), "--slots", str(workers), "--device", "cpu", "--quiet",
                             *options], stdout=subprocess.DEVNULL, env=environment, cwd=folder)


def coordinator_of(front, workers, limit_s=120):
    """Its pid, once all ranks are there."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until and front.poll() is None:
        ranks = ranks_below(front.pid)
        if len(ranks) == workers + 1:
            return next(pid for pid, rank in ranks.items() if rank == 0)
        time.sleep(0.2)
    return None


def dispatch(folder, workers, trials):
    """Trials per second, start-up taken out; CPU microseconds of the coordinator per trial; its peak memory."""
    seconds, cpu_s, peak = {}, {}, 0
    for count in (SPLITS, trials):
        file, db = pathlib.Path(folder) / f"d{count}.yaml", pathlib.Path(folder) / f"d{workers}-{count}.db"
        file.write_text(experiment_text(count // SPLITS))
        begin = time.perf_counter()
        front = start(folder, file, db, workers, "--empty-trials")
        coordinator, used = None, 0.0
        while front.poll() is None:
            if coordinator is None:
                coordinator = next((p for p, rank in ranks_below(front.pid).items() if rank == 0), None)
            if coordinator is not None:
                try:
                    used = processes()[coordinator][2]
                    peak = max(peak, peak_memory_bytes(coordinator))
                except (KeyError, OSError):
                    pass  # it ended
            time.sleep(0.1)
        seconds[count], cpu_s[count] = time.perf_counter() - begin, used
        if front.returncode != 0:
            sys.exit(f"tenfold run with {workers} workers ended with {front.returncode}")
        done = query(db, "SELECT count(*) AS n FROM trial WHERE status = 'done'")[0]["n"]
        if done != count:
            sys.exit(f"{done} of {count} trials are done")
    more = trials - SPLITS
    return more / max(seconds[trials] - seconds[SPLITS], 1e-9), 1e6 * (cpu_s[trials] - cpu_s[SPLITS]) / more, peak, seconds[SPLITS]


def idle(folder, workers, seconds):
    """CPU share of the coordinator while every worker's trainer computes for long."""
    file, db = pathlib.Path(folder) / "idle.yaml", pathlib.Path(folder) / f"idle-{workers}.db"
    file.write_text(IDLE)
    front = start(folder, file, db, workers, TENFOLD_FAKE_STEP_MS="60000")
    try:
        coordinator = coordinator_of(front, workers)
        if coordinator is None:
            sys.exit(f"{workers} workers did not come up")
        until = time.monotonic() + 120
        while time.monotonic() < until:
            running = "SELECT count(*) AS n FROM attempt WHERE outcome = 'running'"
            if db.exists() and query(db, running)[0]["n"] >= workers:
                break
            time.sleep(1)
        else:
            sys.exit(f"not every one of {workers} workers got an array")
        time.sleep(3)
        at, begin = time.perf_counter(), processes()[coordinator][2]
        time.sleep(seconds)
        used, span = processes()[coordinator][2] - begin, time.perf_counter() - at
        return used / span
    finally:
        stop(front)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="8,64,256")
    parser.add_argument("--trials", type=int, default=20000)
    parser.add_argument("--idle-seconds", type=float, default=10)
    options = parser.parse_args()
    timed([LAUNCHER, "version"])
    if not TRAINER.exists():
        sys.exit(f"{TRAINER} is not built: ./tenfold test builds it")
    trials = max(options.trials // SPLITS, 2) * SPLITS
    rows = []
    for workers in (int(w) for w in options.workers.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            rate, cpu_us, peak, startup_s = dispatch(folder, workers, trials)
            share = idle(folder, workers, options.idle_seconds)
        rows.append([workers, f"{rate:.0f}", f"{cpu_us:.0f}", f"{100 * share:.1f} %", f"{1e6 * share / workers:.0f}",
                     f"{peak / 1e6:.0f}", f"{startup_s:.1f}"])
        print_table(["workers", "trials/s", "coordinator us/trial", "idle, of a core", "idle us/s per worker", "peak MB",
                     "run of 100, s"], rows)
        print()


if __name__ == "__main__":
    main()
