#!/usr/bin/env python3
"""What faults and the insurance against them cost, on CPUs: the time from a trainer's death (SIGKILL) until its array goes on in
a new one, and what checkpoints add to a run.

    ./tenfold bench recovery [--kills 5] [--pairs 3]

Recovery is measured from the kill to the first step that is committed beyond the last one from before it; the steps since
the last checkpoint, computed again, are in it and named beside it. Checkpoints are measured by pairs of runs, one that writes many and
one that writes none but the last, in turns; the least time of each counts, and their difference is shared out, for at the default
interval it would drown in what two equal runs differ by.
"""
import argparse
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from product import LAUNCHER, PROGRAM, print_table, processes, query, stop, timed

DEFAULT_INTERVAL_S = 30  # checkpoint.every_s
EXPERIMENT = """name: recovery
dataset: {kind: synthetic, samples: 20000, features: 64, classes: 10}
folds: {kind: stratified, k: 2}
model: {kind: mlp, hidden: [256, 256]}
train: {steps: STEPS, batch_size: 64}
ttt: {steps: 1, query_size: 64}
resources: {max_array: 1}
metrics: [accuracy]
"""


def start(file, db, *options):
    return subprocess.Popen([PROGRAM, "run", str(file), "--db", str(db), "--slots", "1", "--device", "cpu", "--quiet", *options],
                            stdout=subprocess.DEVNULL)


def trainers_below(pid):
    everything, below = processes(), {pid}
    for _ in range(6):
        below |= {p for p, (parent, _, _) in everything.items() if parent in below}
    return [p for p in below if p in everything and everything[p][1].startswith("tenfold-trainer"[:15])]


def latest(db):
    """The last committed step; -1 as long as the store is only being made."""
    asked = subprocess.run([PROGRAM, "query", "SELECT max(step) FROM train_step", "--db", str(db), "--format", "csv"],
                           capture_output=True, text=True)
    last = asked.stdout.split()[-1] if asked.returncode == 0 and asked.stdout.split() else ""
    return int(last) if last.isdigit() else -1


def wait_for_step(front, db, beyond, limit_s=120):
    until = time.monotonic() + limit_s
    while time.monotonic() < until and front.poll() is None:
        step = latest(db)
        if step > beyond:
            return step
        time.sleep(0.02)
    sys.exit(f"no step beyond {beyond} within {limit_s} s")


def recovery(folder, kills, every_steps):
    file, db = folder / "long.yaml", folder / "long.db"
    file.write_text(EXPERIMENT.replace("STEPS", "100000000"))
    front = start(file, db, "--set", f"checkpoint.every_steps={every_steps}", "--set", "retries=1000")
    rows = []
    try:
        step = wait_for_step(front, db, every_steps)
        for number in range(1, kills + 1):
            step = wait_for_step(front, db, step + every_steps)  # a checkpoint further
            trainer = trainers_below(front.pid)
            if len(trainer) != 1:
                sys.exit(f"expected one trainer, found {trainer}")
            begin = time.perf_counter()
            os.kill(trainer[0], signal.SIGKILL)
            time.sleep(0.1)  # what it wrote before it died is committed
            before = latest(db)
            resumed = f"SELECT count(*) AS n, max(resumed_from_step) AS step FROM attempt WHERE fit IS NOT NULL AND number > {number}"
            until = time.monotonic() + 60
            while query(db, resumed)[0]["n"] == 0:
                if time.monotonic() > until:
                    sys.exit("the array was not tried again")
                time.sleep(0.02)
            started_s, from_step = time.perf_counter() - begin, query(db, resumed)[0]["step"]
            first = wait_for_step(front, db, from_step)
            # The rows beyond the checkpoint were deleted when the attempt began: what is there now is new.
            rows.append([number, f"{started_s:.2f}", f"{time.perf_counter() - begin:.2f}", max(0, before - from_step), first - from_step])
            step = first
    finally:
        stop(front)
    print_table(["kill", "new attempt after, s", "first new steps committed after, s", "steps computed again", "steps then"], rows)
    return max(float(row[2]) for row in rows)


def checkpoints(folder, pairs, steps):
    file, every = folder / "run.yaml", max(1, steps // 60)
    file.write_text(EXPERIMENT.replace("STEPS", str(steps)))
    written = 2 * ((steps - 1) // every)  # by two fits
    best = {}
    for pair in range(pairs):
        for name, option in ((f"{written}", f"checkpoint.every_steps={every}"), ("none but the last", "checkpoint.every_s=1e9")):
            db = folder / f"run-{pair}-{name[:4]}.db"
            begin = time.perf_counter()
            front = start(file, db, "--set", option)
            if front.wait() != 0:
                sys.exit(f"tenfold run ended with {front.returncode}")
            seconds = time.perf_counter() - begin
            best[name] = min(best.get(name, seconds), seconds)
    print_table(["checkpoints", "least whole run, s"], [[name, f"{s:.2f}"] for name, s in best.items()])
    cost_s = (best[f"{written}"] - best["none but the last"]) / written
    print(f"a checkpoint costs {1000 * cost_s:.1f} ms: {100 * cost_s / DEFAULT_INTERVAL_S:.2f} % at one every {DEFAULT_INTERVAL_S} s, the default"
          + ("; less than the runs differ by themselves" if cost_s < 0 else ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--every-steps", type=int, default=200, help="between the checkpoints of the run that is killed")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60000, help="of the runs that measure checkpoints: minutes, not seconds")
    options = parser.parse_args()
    timed([LAUNCHER, "version"])
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if options.kills:
            print(f"longest recovery {recovery(folder, options.kills, options.every_steps):.2f} s\n")
        if options.pairs:
            checkpoints(folder, options.pairs, options.steps)


if __name__ == "__main__":
    main()
