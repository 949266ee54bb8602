"""One rank of the demo's training, watched by netmon's DistributedTrainingMonitor; demo.py starts two of these.

What it is to do comes over standard input, a JSON document a line; the answers go to standard output in the same way.
Nothing of the demo outlives it: a rank ends with its input, or is ended by the kernel as soon as demo.py is no more.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any

import netmon
from netmon.integrations import rldk
from training import SocketTraining, TorchTraining, Training

# Libraries print as they please. From here on that goes to standard error, and the answers where nobody else writes.
_answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)


_PR_SET_PDEATHSIG = 1


def answer(**document: Any) -> None:
    """Write one answer."""
    _answers.write(json.dumps(document) + "\n")
    _answers.flush()


def torch_version() -> dict[str, str]:
    """Return the version of torch, or why there is none, a sentence without its subject."""
    try:
        import torch
        import torch.distributed as distributed
    except ImportError as error:
        return {"torch_missing": "is not installed" if error.name == "torch" else f"cannot be imported: {error}"}
    except Exception as error:  # noqa: BLE001 - a broken installation raises what it likes
        return {"torch_missing": f"cannot be imported: {error!r}"}
    if not (distributed.is_available() and distributed.is_gloo_available()):
        return {"torch_missing": "was built without gloo"}
    return {"torch": torch.__version__}


class Rank:
    """The training and its monitor."""

    def __init__(self, job: dict[str, str], interface: str, kind: str, folder: str, interval: float) -> None:
        os.environ.update(job)
        # Loopback counts only where it is named.
        rldk.configure(interfaces=[interface], interval=interval)
        self.callback = rldk.DistributedTrainingMonitor(
            network_monitoring=True, network_sampling_frequency=1, output_dir=folder, run_id="demo"
        )
        self.callback.on_train_begin(None)
        self.interface = rldk.NetworkInterfaceMonitor(interface)
        self.tcp = netmon.Monitor(interval=3600, sources=["interfaces", "tcp"])
        self.training: Training = TorchTraining() if kind == "torch" else SocketTraining()

    def train(self, steps: int) -> None:
        """Train, and answer after each step with what netmon showed for it."""
        for step in range(1, steps + 1):
            self.callback.on_step_begin(None, step)
            loss = self.training.step()
            self.callback.on_step_end(None, step, loss=loss)
            metrics = self.callback.current_metrics
            sources = metrics.sources
            figures = {"sent_mbps": "bandwidth_upload_mbps", "received_mbps": "bandwidth_download_mbps"}
            answer(
                step=step,
                loss=loss,
                seconds=metrics.step_time,
                age_seconds=sources[figures["received_mbps"]].age_seconds if figures["received_mbps"] in sources else None,
                **{key: getattr(metrics, name) if name in sources else None for key, name in figures.items()},
            )

    def count(self) -> dict[str, int | None]:
        """Return what netmon has counted: bytes on the interface, segments TCP sent again; and the MTU. None: not known."""
        stats = self.interface.get_interface_stats()
        sample = self.tcp.sample()
        mtu = next((row.mtu for row in sample.interfaces or () if row.name == self.interface.interface_name), None)
        keys = {"sent": "total_bytes_sent", "received": "total_bytes_recv"}
        return {
            **{name: None if key in stats.unmeasured else int(stats[key]) for name, key in keys.items()},
            "resent_segments": None if sample.tcp is None else sample.tcp.segments_retransmitted_total,
            "mtu": mtu,
        }

    def end(self) -> list[str]:
        """End the training, and return what netmon had to complain about."""
        self.callback.on_train_end(None)
        self.training.close()
        problems: list[str] = self.callback.health()["problems"]
        return problems


def main() -> None:
    """Do what is asked for, until the input ends."""
    # torch waits for a rank that is gone for minutes.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    answer(**(torch_version() if "--torch" in sys.argv[1:] else {}))
    rank: Rank | None = None
    for line in sys.stdin:
        request = json.loads(line)
        what = request.pop("do")
        if what == "prepare":
            rank = Rank(**request)
            answer(gradient_bytes=rank.training.gradient_bytes)
            continue
        assert rank is not None, "not prepared"
        if what == "count":
            answer(**rank.count())
        elif what == "train":
            rank.train(**request)
            answer(fingerprint=rank.training.fingerprint())
        elif what == "end":
            answer(problems=rank.end())


if __name__ == "__main__":
    main()
