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
train: {{steps: 1}}
ttt: {{steps: 1}}
sweep:
  ttt.lr: [{rates}]
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10000)
    trials = parser.parse_args().trials // SPLITS * SPLITS
    timed([LAUNCHER, "version"])
    with tempfile.TemporaryDirectory() as folder:
        file, db = pathlib.Path(folder) / "dispatch.yaml", pathlib.Path(folder) / "dispatch.db"
        file.write_text(experiment_text(trials // SPLITS))
        begin = time.perf_counter()
        run = subprocess.Popen([PROGRAM, "run", str(file), "--db", str(db), "--slots", "2", "--device", "cpu", "--quiet",
                                "--empty-trials"], stdout=subprocess.DEVNULL)
        peak = 0
        while run.poll() is None:
            for pid, rank in ranks_below(run.pid).items():
                if rank == 0:
                    try:
                        peak = max(peak, peak_memory_bytes(pid))
                    except OSError:
                        pass
            time.sleep(0.05)
        whole_s = time.perf_counter() - begin
        if run.returncode != 0:
            sys.exit(f"tenfold run ended with {run.returncode}")
        row = query(db, "SELECT count(*) AS done, (max(julianday(a.finished_at)) - min(julianday(a.started_at))) * 86400 AS span_s"
                        " FROM attempt a JOIN trial t ON t.id = a.trial WHERE t.status = 'done'")[0]
        workers = query(db, "SELECT count(DISTINCT rank) AS n FROM attempt")[0]["n"]
    if row["done"] != trials:
        sys.exit(f"{row['done']} of {trials} trials are done")
    print_table(["", "value"], [
        ["trials done", row["done"]], ["workers that took part", workers],
        ["whole command, s", f"{whole_s:.2f}"], ["first dispatch to last answer, s", f"{row['span_s']:.2f}"],
        ["trials/s, first dispatch to last answer", f"{trials / row['span_s']:.0f}"],
        ["trials/s, whole command", f"{trials / whole_s:.0f}"],
        ["coordinator's peak memory, MB", f"{peak / 1e6:.1f}"]])


if __name__ == "__main__":
    main()
