"""The trials one after another on one device. Usage: peer_sequential.py [TRIALS] [DEVICE]"""
import json
import sys

from plain_pytorch_trial import TRIALS, run_trial, summary

if __name__ == "__main__":
    trials = TRIALS[:int(sys.argv[1])] if len(sys.argv) > 1 else TRIALS
    device = sys.argv[2] if len(sys.argv) > 2 else "cuda"
    print(json.dumps(summary([run_trial(configuration, fold, device) for configuration, fold in trials])))
