#!/usr/bin/env python3
"""An indexed query on a store of 1 GB: from the program's start to its end, the answer included.

    ./tenfold bench query_latency [--gb 1]
"""
import argparse
import pathlib
import sqlite3
import subprocess
import sys
import tempfile
import time

from product import LAUNCHER, PROGRAM, print_table, timed

STEPS = 1000
BLOCK = 500  # trials a transaction
QUERIES = {
    "one step of one trial": "SELECT total, entropy, diversity FROM ttt_step WHERE trial = {trial} AND step = 500",
    "one trial's curve": "SELECT step, total FROM ttt_step WHERE trial = {trial} ORDER BY step LIMIT 100",
    "a trial's row": "SELECT id, status FROM trial WHERE id = {trial}",
}


def fill(db, bytes_wanted):
    """Trials like the imported one, with STEPS steps each, until the file has its size."""
    connection = sqlite3.connect(db, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    columns = [c for c in (row[1] for row in connection.execute("PRAGMA table_info(trial)")) if c not in ("id", "identity")]
    names = ", ".join(columns)
    first = last = connection.execute("SELECT max(id) FROM trial").fetchone()[0]
    while db.stat().st_size < bytes_wanted:
        connection.execute("BEGIN")
        connection.execute(
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {BLOCK})"
            f" INSERT INTO trial(id, identity, {names}) SELECT {last} + i, 'filler ' || ({last} + i), {names}"
            f" FROM n, trial WHERE trial.id = {first}")
        connection.execute(
            f"WITH RECURSIVE s(step) AS (SELECT 0 UNION ALL SELECT step + 1 FROM s WHERE step < {STEPS - 1})"
            " INSERT INTO ttt_step(trial, step, total, entropy, diversity, diversity_weight, class_entropy, grad_norm, lr, wall_s)"
            " SELECT t.id, s.step, 1.3 / (1 + s.step) + t.id * 1e-9, 1.1, 0.2 + t.id * 1e-9, 0.15, 0.9, 0.7, 3e-5, 1e-3"
            f" FROM trial t, s WHERE t.id > {last}")
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        last += BLOCK
    connection.execute("ANALYZE")
    connection.close()
    return last


def first_row_s(db, sql):
    begin = time.perf_counter()
    with subprocess.Popen([PROGRAM, "query", sql, "--db", str(db), "--format", "csv"], stdout=subprocess.PIPE) as process:
        process.stdout.readline()  # the header
        row = process.stdout.readline()
        seconds = time.perf_counter() - begin
        process.stdout.read()
    if process.returncode != 0 or not row:
        sys.exit(f"no row from: {sql}")
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=1)
    options = parser.parse_args()
    timed([LAUNCHER, "version"])
    with tempfile.TemporaryDirectory() as folder:
        db, csv = pathlib.Path(folder) / "large.db", pathlib.Path(folder) / "seed.csv"
        csv.write_text("fold,step,total,entropy,diversity\n0,0,1.33,1.3,0.2\n0,1,1.23,1.2,0.2\n")
        timed([PROGRAM, "import", "ttt-steps", str(csv), "--name", "seed", "--db", str(db)])
        last = fill(db, options.gb * 1e9)
        rows = []
        for title, sql in QUERIES.items():
            times = sorted(first_row_s(db, sql.format(trial=last - 17 * i)) for i in range(21))
            rows.append([title, f"{1e3 * times[10]:.1f}", f"{1e3 * times[-1]:.1f}"])
        size = db.stat().st_size
    print(f"a store of {size / 1e9:.2f} GB; from the program's start to its first row, 21 times:")
    print_table(["query", "median, ms", "longest, ms"], rows)


if __name__ == "__main__":
    main()
