"""What logging a step costs the thread that trains: ``PYTHONPATH=python python -m bench.trackers``.

W&B (offline), TensorBoard and MLflow (a folder) have to be installed. Prints medians and 99th percentiles of 200 calls.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable

_CALLS = 200
_PAUSE_SECONDS = 0.005  # a training does something else in between


def _time(call: Callable[[int], object]) -> list[float]:
    took = []
    for step in range(_CALLS):
        begun = time.perf_counter()
        call(step)
        took.append(time.perf_counter() - begun)
        time.sleep(_PAUSE_SECONDS)
    return sorted(took)


def main() -> None:
    """Measure and print."""
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}
    import mlflow
    import wandb

    import netmon
    from netmon.integrations.trackers import Logger, MlflowLogger, TensorboardLogger, WandbLogger

    with tempfile.TemporaryDirectory() as folder, netmon.Monitor(interval=0.2, interfaces=["lo"], cluster=False) as monitor:
        time.sleep(1.0)
        mlflow.set_tracking_uri(f"file:{folder}/mlruns")
        run = wandb.init(project="bench", dir=folder)
        with (
            mlflow.start_run(),
            Logger(monitor) as values,
            WandbLogger(run, monitor) as to_wandb,
            TensorboardLogger(f"{folder}/runs", monitor) as to_tensorboard,
            MlflowLogger(monitor=monitor) as to_mlflow,
        ):
            calls: dict[str, Callable[[int], object]] = {
                "values(step)": values.values,
                "TensorboardLogger.log(step)": to_tensorboard.log,
                "MlflowLogger.log(step)": to_mlflow.log,
                "WandbLogger.log(step)": to_wandb.log,
                "W&B's own run.log({'loss': 1.0})": lambda step: run.log({"loss": 1.0}),
            }
            print(f"{len(values.values(0))} values\n| call | median, µs | 99 %, µs |\n| --- | --- | --- |")
            for name, call in calls.items():
                took = _time(call)
                print(f"| {name} | {took[_CALLS // 2] * 1e6:.0f} | {took[_CALLS * 99 // 100] * 1e6:.0f} |")
        run.finish()


if __name__ == "__main__":
    main()
