"""The trials by Ray Tune: 2 concurrent trials of 1 CPU and 1 thread each; a trial reports once, when it is done (reporting
each step would only make it slower). Usage: peer_ray_tune.py [TRIALS]"""
import json
import pathlib
import sys
import tempfile

import ray
from ray import tune

HERE = str(pathlib.Path(__file__).parent)


def trainable(config):
    sys.path.insert(0, HERE)
    import torch

    from plain_pytorch_trial import TRIALS, run_trial

    torch.set_num_threads(1)
    configuration, fold = TRIALS[config["trial"]]
    tune.report({"result": run_trial(configuration, fold)})


if __name__ == "__main__":
    sys.path.insert(0, HERE)
    from plain_pytorch_trial import TRIALS, summary

    count = int(sys.argv[1]) if len(sys.argv) > 1 else len(TRIALS)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space={"trial": tune.grid_search(list(range(count)))},
            run_config=tune.RunConfig(storage_path=folder, verbose=0))
        grid = tuner.fit()
        if grid.errors:
            sys.exit(f"{len(grid.errors)} trials failed: {grid.errors[0]}")
        results = [result.metrics["result"] for result in grid]
    print(json.dumps(summary(results)))
    ray.shutdown()
