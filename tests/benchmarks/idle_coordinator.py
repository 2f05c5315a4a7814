#!/usr/bin/env python3
"""CPU time and memory of the coordinator and the workers while their trainers compute.

    ./tenfold bench idle_coordinator [--seconds 20]
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

from product import LAUNCHER, PROGRAM, peak_memory_bytes, print_table, processes, ranks_below, stop, timed

# Long enough to outlast the measurement; it is stopped, not finished.
EXPERIMENT = """name: idle
dataset: {kind: synthetic, samples: 4000, features: 64, classes: 10}
folds: {kind: stratified, k: 2}
model: {kind: mlp, hidden: [256, 256]}
train: {epochs: 100000}
ttt: {steps: 1}
"""
WARM_UP_S = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    seconds = parser.parse_args().seconds
    timed([LAUNCHER, "version"])
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "idle.yaml"
        file.write_text(EXPERIMENT)
        run = subprocess.Popen([PROGRAM, "run", str(file), "--db", folder + "/idle.db", "--slots", "2", "--device", "cpu",
                                "--quiet"], stdout=subprocess.DEVNULL)
        try:
            time.sleep(WARM_UP_S)
            ranks = ranks_below(run.pid)
            if len(ranks) < 3:
                sys.exit(f"expected a coordinator and two workers, found {len(ranks)} ranks")
            begin, at = processes(), time.perf_counter()
            time.sleep(seconds)
            end, span = processes(), time.perf_counter() - at
            rows = []
            for pid, rank in sorted(ranks.items(), key=lambda item: item[1]):
                rows.append(["coordinator" if rank == 0 else f"worker {rank}",
                             f"{100 * (end[pid][2] - begin[pid][2]) / span:.2f} %", f"{peak_memory_bytes(pid) / 1e6:.1f} MB"])
        finally:
            stop(run)
    print_table(["", "of a core", "peak memory"], rows)


if __name__ == "__main__":
    main()
