#!/usr/bin/env python3
"""Gives so many inputs to each fuzzer, one after another, and prints what came of it.

    run.py BUILD_FOLDER [INPUTS] [TARGET ...]     (./tenfold test --fuzz [INPUTS] [TARGET ...])

Inputs that reach something new are kept in BUILD_FOLDER/corpus for the next time; what is a finding is written to
BUILD_FOLDER/findings. Exit code 1 when there is one.
"""
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

SEEDS = pathlib.Path(__file__).resolve().parent / "corpus"
# Allocations above it are a finding: nothing may be believed that a file says of its size.
LIMIT_MB = 128
# Read by libraries that some files break: in a process of their own, there as in the product. It is given no more memory
# than this, and 0.1 s of a core; how often it ended is counted (BUILD_FOLDER/broken has the inputs).
APART = {"hdf5", "mat"}
APART_LIMIT_MB = 64


def computed_s():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(build, name, inputs):
    kept, findings = build / "corpus" / name, build / "findings"
    for folder in (kept, findings):
        folder.mkdir(parents=True, exist_ok=True)
    asan, broken = "allocator_may_return_null=1:detect_leaks=0", build / "broken" / name
    environment = {**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1"}
    if name in APART:
        asan += f":max_allocation_size_mb={APART_LIMIT_MB}:symbolize=0:quarantine_size_mb=8"
        shutil.rmtree(broken, ignore_errors=True)
        broken.mkdir(parents=True)
        environment["TENFOLD_FUZZ_BROKEN"] = str(broken)
    environment["ASAN_OPTIONS"] = asan
    largest = max(file.stat().st_size for file in (SEEDS / name).iterdir())
    # Without entropic: over thousands of features its bookkeeping takes longer than the readers.
    command = ["nice", "-n", "15", str(build / "fuzz" / f"fuzz_{name}"), f"-runs={inputs}", f"-max_len={max(1024, largest + 512)}",
               f"-malloc_limit_mb={LIMIT_MB}", "-rss_limit_mb=2048",
               f"-timeout={600 if name in APART else 60}", "-print_final_stats=1",
               "-entropic=0", f"-artifact_prefix={findings}/{name}-", str(kept), str(SEEDS / name)]
    log, begin, spent, counted = build / f"fuzz_{name}.log", time.monotonic(), computed_s(), 0
    without_disk = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with open(log, "w") as out, tempfile.TemporaryDirectory(prefix="tenfold-", dir=without_disk) as folder:
        code = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, env={**environment, "TMPDIR": folder}).returncode
    text = log.read_text(errors="replace")
    for pattern in (r"^#(\d+)\s", r"stat::number_of_executed_units:\s+(\d+)", r"^Done (\d+) runs"):
        for found in re.findall(pattern, text, re.M):
            counted = max(counted, int(found))
    took, spent = time.monotonic() - begin, computed_s() - spent
    said = "no finding" if code == 0 else f"A FINDING: see {log}"
    if name in APART:
        said += f"; {len(list(broken.iterdir()))} broke the library"
    print(f"{name:14} {counted:>9} inputs {took:7.0f} s ({spent:5.0f} s of a core)  {len(list(kept.iterdir())):>5} kept  {said}", flush=True)
    return code == 0


def main(arguments):
    build = pathlib.Path(arguments[0]).resolve()
    inputs = int(arguments[1]) if len(arguments) > 1 else 100_000
    known = sorted(folder.name for folder in SEEDS.iterdir())
    names = arguments[2:] or known
    for name in names:
        if name not in known:
            sys.exit(f"fuzz: no target '{name}'; there are {', '.join(known)}")
    good = [run(build, name, inputs) for name in names]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
