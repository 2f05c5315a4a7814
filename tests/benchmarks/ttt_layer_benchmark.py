#!/usr/bin/env python3
"""Train steps of models with TTT layers against the same in eager PyTorch, on a CPU and, where there is one, a GPU.

    ./tenfold bench ttt_layer_benchmark [--models ttt_rnn,gru] [--members 1,5,20] [--devices cpu,cuda:0] [--seconds 5]

The product's side is the program ttt_layer_benchmark (built with the product): the trainer's model, loss and AdamW, K
members as one array, on a GPU one captured graph. PyTorch's side is the formulas as one writes them down: fast weights
formed, inner gradients by autograd, a trial after another.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

from product import PROGRAM, print_table

HERE = pathlib.Path(__file__).resolve().parent


def product_lines(arguments, device, model):
    program = pathlib.Path(PROGRAM).parent / "ttt_layer_benchmark"
    if not program.exists():
        sys.exit(f"{program} is not there; build the target ttt_layer_benchmark")
    command = [program, "--device", device, "--models", model, "--members", arguments.members, "--seconds", str(arguments.seconds)]
    for option, value in (("--batch", arguments.batch), ("--steps", arguments.steps)):
        command += [option, str(value)] if value else []
    environment = dict(os.environ, OMP_NUM_THREADS=str(arguments.threads), MKL_NUM_THREADS=str(arguments.threads))
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {done.returncode}: {done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def peer_seconds(arguments, line):
    """One train step of one trial by peers/plain_ttt_layers.py."""
    command = [arguments.python, HERE / "peers/plain_ttt_layers.py", "--seconds", str(arguments.seconds), "--threads", str(arguments.threads)]
    done = subprocess.run(list(map(str, command)), input=json.dumps(line), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def has_gpu():
    return pathlib.Path("/dev/nvidiactl").exists()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="ttt_rnn,ttt_linear,ttt_mlp")
    parser.add_argument("--members", default="1,5,20")
    parser.add_argument("--devices", default="cpu,cuda:0" if has_gpu() else "cpu")
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--threads", type=int, default=1, help="on the CPU, of both sides")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has torch")
    parser.add_argument("--json", help="file for the figures")
    arguments = parser.parse_args()
    rows, figures = [], []
    for device in arguments.devices.split(","):
        for model in arguments.models.split(","):
            lines = product_lines(arguments, device, model)
            peer = peer_seconds(arguments, lines[0])
            if peer["parameters"] != lines[0]["parameters"]:
                sys.exit(f"{model}: {lines[0]['parameters']} parameters here, {peer['parameters']} in PyTorch: not the same model")
            for line in lines:
                each = line["step_s"] / line["members"]
                rows.append([device, model, line["members"], f"{line['step_s'] * 1e3:.1f}", f"{each * 1e3:.1f}",
                             f"{peer['step_s'] * 1e3:.1f}", f"{peer['step_s'] / each:.1f}", f"{line['peak_memory_bytes'] / 2**30:.1f}"])
                figures.append(dict(line, peer_step_s=peer["step_s"], per_trial_s=each))
    print_table(["device", "model", "K", "ms a step", "ms per trial", "PyTorch ms", "times faster", "peak GiB"], rows)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
