"""The trials by joblib: 2 worker processes of 1 thread each. Usage: peer_joblib.py [TRIALS]"""
import json
import sys

import torch
from joblib import Parallel, delayed

from plain_pytorch_trial import TRIALS, run_trial, summary


def one(configuration, fold):
    torch.set_num_threads(1)
    return run_trial(configuration, fold)


if __name__ == "__main__":
    trials = TRIALS[:int(sys.argv[1])] if len(sys.argv) > 1 else TRIALS
    results = Parallel(n_jobs=2)(delayed(one)(configuration, fold) for configuration, fold in trials)
    print(json.dumps(summary(results)))
