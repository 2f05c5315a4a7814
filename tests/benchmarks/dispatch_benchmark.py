#!/usr/bin/env python3
"""Trials that compute nothing, through 2 workers: how fast they are dispatched, committed and answered, and what memory the
coordinator takes.

    ./tenfold bench dispatch_benchmark [--trials 10000]        100000 shows the coordinator's memory
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

from product import LAUNCHER, PROGRAM, peak_memory_bytes, print_table, query, ranks_below, timed

SPLITS = 100  # 10 folds x 10 repeats


def experiment_text(configurations):
    rates = ", ".join(f"{1e-5 * (1 + i):.6g}" for i in range(configurations))
    return f"""name: dispatch
dataset: {{kind: synthetic, samples: 300, features: 4, classes: 3}}
folds: {{kind: stratified, k: 10, repeats: 10}}
model: {{kind: mlp, hidden: [8]}}
train: {{steps: 1, batch_size: 8}}
ttt: {{steps: 1, batch_size: 8}}
sweep:
  ttt.lr: [{rates}]
"""


def run(folder, trials, name):
    """Seconds of the whole command, the coordinator's peak memory, and the workers that took part."""
    file, db = pathlib.Path(folder) / "dispatch.yaml", pathlib.Path(folder) / f"{name}.db"
    file.write_text(experiment_text(trials // SPLITS))
    begin = time.perf_counter()
    process = subprocess.Popen([PROGRAM, "run", str(file), "--db", str(db), "--slots", "2", "--device", "cpu", "--quiet",
                                "--empty-trials"], stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        for pid, rank in ranks_below(process.pid).items():
            if rank == 0:
                try:
                    peak = max(peak, peak_memory_bytes(pid))
                except OSError:
                    pass  # it ended
        time.sleep(0.05)
    seconds = time.perf_counter() - begin
    if process.returncode != 0:
        sys.exit(f"tenfold run ended with {process.returncode}")
    done = query(db, "SELECT count(*) AS n FROM trial WHERE status = 'done'")[0]["n"]
    if done != trials:
        sys.exit(f"{done} of {trials} trials are done")
    return seconds, peak, query(db, "SELECT count(DISTINCT rank) AS n FROM attempt")[0]["n"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10000)
    trials = max(parser.parse_args().trials // SPLITS, 2) * SPLITS
    timed([LAUNCHER, "version"])
    with tempfile.TemporaryDirectory() as folder:
        # What starting and planning take is the same in both; the rest is dispatch, commit and answer.
        few_s = min(run(folder, SPLITS, name)[0] for name in ("cold", "warm"))
        seconds, peak, workers = run(folder, trials, "many")
    more = trials - SPLITS
    print_table(["", "value"], [
        ["trials done", trials], ["workers that took part", workers],
        [f"whole command with {SPLITS} trials, s", f"{few_s:.2f}"], [f"whole command with {trials} trials, s", f"{seconds:.2f}"],
        ["trials/s, start-up taken out", f"{more / (seconds - few_s):.0f}" if seconds > few_s else "too few trials to tell"],
        ["trials/s, whole command", f"{trials / seconds:.0f}"],
        ["coordinator's peak memory, MB", f"{peak / 1e6:.1f}"]])


if __name__ == "__main__":
    main()
