"""What the benchmarks share: where tenfold is, running it, asking its store, and printing a table."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAUNCHER = os.environ.get("TENFOLD", str(ROOT / "tenfold"))
PROGRAM = os.environ.get("TENFOLD_PROGRAM", str(pathlib.Path(os.environ.get("TENFOLD_BUILD", ROOT / "build")) / "bin/tenfold"))


def timed(command, **options):
    """Seconds and standard output of a command that must succeed."""
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, **options)
    seconds = time.perf_counter() - begin
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return seconds, done.stdout


def stop(run):
    """Drains a running tenfold; kills it where that takes more than a minute."""
    run.send_signal(signal.SIGTERM)
    try:
        run.wait(60)
    except subprocess.TimeoutExpired:
        run.kill()
        run.wait()


def query(db, sql):
    return json.loads(timed([PROGRAM, "query", sql, "--db", str(db), "--format", "json"])[1])


def processes():
    """pid -> (parent's pid, name, CPU seconds so far)."""
    ticks = os.sysconf("SC_CLK_TCK")
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text()
        except OSError:
            continue  # it ended
        name, rest = text[text.index("(") + 1:text.rindex(")")], text[text.rindex(")") + 2:].split()
        found[int(entry.name)] = (int(rest[1]), name, (int(rest[11]) + int(rest[12])) / ticks)
    return found


def ranks_below(pid):
    """pid -> rank of tenfold's coordinator (0) and workers among the descendants of a process."""
    everything = processes()
    below, ranks = {pid}, {}
    for _ in range(6):  # front, mpirun, rank: a few levels
        below |= {p for p, (parent, _, _) in everything.items() if parent in below}
    for p in below:
        try:
            arguments = pathlib.Path(f"/proc/{p}/cmdline").read_bytes().split(b"\0")
            variables = dict(v.split(b"=", 1) for v in pathlib.Path(f"/proc/{p}/environ").read_bytes().split(b"\0") if b"=" in v)
        except OSError:
            continue
        if len(arguments) > 1 and arguments[1] == b"rank" and b"OMPI_COMM_WORLD_RANK" in variables:
            ranks[p] = int(variables[b"OMPI_COMM_WORLD_RANK"])
    return ranks


def peak_memory_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def print_table(columns, rows):
    cells = [[str(c) for c in columns]] + [[str(c) for c in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    for number, row in enumerate(cells):
        print("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip())
        if number == 0:
            print("  ".join("-" * w for w in widths))
    sys.stdout.flush()
