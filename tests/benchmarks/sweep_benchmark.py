#!/usr/bin/env python3
"""The 60 trials of experiments/digits.yaml by tenfold and by plain PyTorch under Ray Tune, joblib or one GPU, in one go.

    ./tenfold bench sweep_benchmark                 CPU: Ray Tune and joblib, 2 workers of 1 thread, against tenfold with 2 slots
    ./tenfold bench sweep_benchmark --gpu           one GPU: plain PyTorch, a trial after another, against tenfold on that GPU
    ./tenfold bench sweep_benchmark --quick         2 trials of each: shows that everything works; the figures mean nothing

The peers' packages go into a virtual environment of their own ($TENFOLD_CACHE/bench or ~/.cache/tenfold/bench, 6 GB, made on
first use); --python PATH takes an interpreter that has them (torch, numpy, scikit-learn; joblib and ray[tune] on CPUs).
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from product import LAUNCHER, PROGRAM, ROOT, print_table, query, timed

PEERS = pathlib.Path(__file__).resolve().parent / "peers"
PACKAGES = ["torch==2.11.0", "numpy", "scikit-learn==1.9.1", "joblib", "ray[tune]"]
QUICK_TRIALS = 2


def peers_python():
    cache = pathlib.Path(os.environ.get("TENFOLD_CACHE", pathlib.Path.home() / ".cache/tenfold")) / "bench"
    python = cache / "venv/bin/python"
    if not (cache / "complete").exists():
        print(f"installing the peers' packages into {cache} (once)", file=sys.stderr)
        # --without-pip and pip's --python: works where Debian's python3-venv is not installed.
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(cache / "venv")], check=True)
        subprocess.run([sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check",
                        "--root-user-action=ignore", *PACKAGES], check=True)
        (cache / "complete").touch()
    return str(python)


def quick_experiment(folder):
    """The peers' first configuration on two folds: the smallest thing that goes through every part."""
    text = (ROOT / "experiments/digits.yaml").read_text()
    kept, skipping = [], False
    for line in text.splitlines():
        starts_key = line[:1].isalpha()
        if starts_key:
            skipping = line.startswith("sweep:")
        if not skipping:
            kept.append(line)
    file = pathlib.Path(folder) / "quick.yaml"
    file.write_text("\n".join(kept) + "\n")
    return [str(file), "--set", "folds.k=2", "--set", "ttt.batch_size=32", "--set", "ttt.lr=3e-5", "--set", "ttt.parameters=norm"]


def tenfold_run(title, folder, experiment, flags):
    db = pathlib.Path(folder) / (title.replace(" ", "_").replace(",", "") + ".db")
    seconds, _ = timed([PROGRAM, "run", *experiment, "--db", str(db), "--quiet", *flags])
    # Step 0 is measured before the first update; the peers' first pass is step 1.
    summary = query(db, "SELECT count(*) AS trials, avg(accuracy_before) AS accuracy_before, avg(accuracy_after) AS accuracy_after,"
                        " avg((SELECT s.total FROM ttt_step s WHERE s.trial = v.trial AND s.step = 1)) AS first_total,"
                        " avg(last_total) AS last_total FROM trial_summary v WHERE status = 'done'")[0]
    # An attempt's wall_s is its share of its array's time, so their sum is the arrays' own time.
    arrays_s = query(db, "SELECT sum(wall_s) AS s FROM attempt WHERE outcome = 'done'")[0]["s"]
    return {"title": title, "seconds": seconds, "arrays_s": arrays_s, **summary}


def peer_run(title, python, script, arguments, folds):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PEERS), "PEER_FOLDS": str(folds)}
    seconds, output = timed([python, str(PEERS / script), *arguments], env=environment)
    return {"title": title, "seconds": seconds, "arrays_s": None, **json.loads(output.strip().splitlines()[-1])}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--python", help="interpreter for the peers")
    parser.add_argument("--skip", action="append", default=[], choices=["ray", "joblib", "sequential", "no-share"])
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()

    python = options.python or peers_python()
    count = [str(QUICK_TRIALS)] if options.quick else []
    # Build and warm the page cache for both sides before anything is timed.
    timed([LAUNCHER, "version"])
    timed([python, "-c", "import torch, sklearn.datasets"])

    with tempfile.TemporaryDirectory() as folder:
        experiment = quick_experiment(folder) if options.quick else [str(ROOT / "experiments/digits.yaml")]
        planned = json.loads(timed([PROGRAM, "plan", *experiment, "--json", "--db", folder + "/none.db"])[1])
        expected = QUICK_TRIALS if options.quick else 60
        if planned["trials"] != expected:
            sys.exit(f"the experiment has {planned['trials']} trials, the peers {expected}: they no longer compute the same")
        device = ["--device", "cuda", "--slots", "1"] if options.gpu else ["--device", "cpu", "--slots", "2"]
        ours = [tenfold_run("tenfold", folder, experiment, device)]
        if "no-share" not in options.skip:
            ours.append(tenfold_run("tenfold --no-share", folder, experiment, [*device, "--no-share"]))
        folds = 2 if options.quick else 5
        peers = []
        if options.gpu and "sequential" not in options.skip:
            peers.append(peer_run("PyTorch, sequential on the GPU", python, "peer_sequential.py", [str(expected), "cuda"], folds))
        if not options.gpu and "joblib" not in options.skip:
            peers.append(peer_run("PyTorch, joblib, 2 workers", python, "peer_joblib.py", count, folds))
        if not options.gpu and "ray" not in options.skip:
            peers.append(peer_run("PyTorch, Ray Tune, 2 workers", python, "peer_ray_tune.py", count, folds))

    print_table(["", "trials", "seconds", "arrays' own s", "accuracy before", "after", "first total", "last total"],
                [[r["title"], r["trials"], f"{r['seconds']:.2f}", "-" if r["arrays_s"] is None else f"{r['arrays_s']:.2f}",
                  f"{r['accuracy_before']:.4f}", f"{r['accuracy_after']:.4f}", f"{r['first_total']:.4f}", f"{r['last_total']:.4f}"]
                 for r in ours + peers])
    print()
    print_table(["times faster, whole command", *[r["title"] for r in ours], "arrays' own time"],
                [[peer["title"], *[f"{peer['seconds'] / r['seconds']:.1f}" for r in ours],
                  f"{peer['seconds'] / ours[0]['arrays_s']:.1f}"] for peer in peers])
    if options.quick:
        print("\n(--quick: 2 trials; start-up dominates and the figures mean nothing)")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"tenfold": ours, "peers": peers}, indent=2) + "\n")


if __name__ == "__main__":
    main()
