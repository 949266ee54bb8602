"""The training: one linear layer on two ranks, by DistributedDataParallel, or by hand over a plain socket.

Both fit the same layer to data of the same kind. Each rank has examples of its own; the gradients are averaged over the ranks
by a ring all-reduce in every step, so that all ranks keep the same weights.
"""

from __future__ import annotations

import ctypes
import os
import random
import socket
import time
import zlib
from array import array
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from operator import add, mul
from typing import Any, Protocol

INPUTS, OUTPUTS = 1000, 2000
SECONDS = 60.0


class Training(Protocol):
    """One rank's part in a training."""

    gradient_bytes: int

    def step(self) -> float:
        """Forward, backward, all-reduce, update; returns the loss of this rank's examples before the update."""

    def fingerprint(self) -> int:
        """Return a checksum of the weights, equal on all ranks."""

    def close(self) -> None:
        """Leave the job."""


class TorchTraining:
    """DistributedDataParallel on gloo, as the variables of torchrun describe the job."""

    # So many that a step computes for some tenths of a second, as it takes in plain Python.
    _EXAMPLES = 2048
    _RATE = 0.2

    def __init__(self) -> None:
        import torch
        import torch.distributed

        torch.set_num_threads(1)
        torch.distributed.init_process_group("gloo")
        self._distributed: Any = torch.distributed
        torch.manual_seed(0)
        teacher = torch.randn(INPUTS, OUTPUTS)
        layer = torch.nn.Linear(INPUTS, OUTPUTS, bias=False)
        torch.manual_seed(1 + torch.distributed.get_rank())
        self._inputs = torch.nn.functional.normalize(torch.randn(self._EXAMPLES, INPUTS))
        self._outputs = self._inputs @ teacher
        self._model = torch.nn.parallel.DistributedDataParallel(layer)
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=self._RATE)
        self.gradient_bytes = sum(p.numel() * p.element_size() for p in self._model.parameters())

    def step(self) -> float:
        """Let DistributedDataParallel average the gradients as soon as they are computed."""
        self._optimizer.zero_grad()
        squares = (self._model(self._inputs) - self._outputs).square()
        (squares.sum() / 2).backward()
        self._optimizer.step()
        return float(squares.detach().mean())

    def fingerprint(self) -> int:
        """Return a checksum of the weights."""
        (weights,) = self._model.parameters()
        return zlib.crc32(ctypes.string_at(weights.data_ptr(), self.gradient_bytes))

    def close(self) -> None:
        """Destroy the process group."""
        self._distributed.destroy_process_group()


class SocketTraining:
    """The same in plain Python, with one example on each rank, an input of length 1."""

    _RATE = 0.5

    def __init__(self) -> None:
        rank = int(os.environ["RANK"])
        self._ring = Ring(rank, os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
        numbers = random.Random(rank)  # noqa: S311 - data, no secret
        values = [numbers.gauss(0, 1) for _ in range(INPUTS)]
        length = sum(value * value for value in values) ** 0.5
        self._input = [value / length for value in values]
        self._output = [numbers.choice((-1.0, 1.0)) for _ in range(OUTPUTS)]
        self._weights = array("f", bytes(4 * INPUTS * OUTPUTS))
        self.gradient_bytes = len(self._weights) * self._weights.itemsize

    def step(self) -> float:
        """Sum the gradients over the ranks when all are computed."""
        weights, inputs = self._weights, self._input
        rows = (weights[row * INPUTS : (row + 1) * INPUTS] for row in range(OUTPUTS))
        errors = [sum(map(mul, row, inputs)) - wanted for row, wanted in zip(rows, self._output, strict=True)]
        gradients = array("f")
        for error in errors:
            gradients.extend([error * value for value in inputs])
        self._ring.all_reduce(gradients)
        rate = self._RATE / self._ring.size
        self._weights = array("f", [weight - rate * gradient for weight, gradient in zip(weights, gradients, strict=True)])
        return float(sum(error * error for error in errors)) / OUTPUTS

    def fingerprint(self) -> int:
        """Return a checksum of the weights."""
        return zlib.crc32(self._weights)

    def close(self) -> None:
        """Close the connection."""
        self._ring.close()


class Ring:
    """A ring of two: the neighbour on either side is the other rank, so one connection serves both ways."""

    size = 2

    def __init__(self, rank: int, address: str, port: int) -> None:
        self.rank = rank
        self._peer = _accept(address, port) if rank == 0 else _connect(address, port)
        self._sender = ThreadPoolExecutor(1)

    def all_reduce(self, values: array[float]) -> None:
        """Sum an array over the ranks, in place; each rank sends 2(n-1)/n of it and receives as much."""
        size, rank = self.size, self.rank
        view = memoryview(values)
        bounds = [len(values) * part // size for part in range(size + 1)]
        parts = [view[begin:end] for begin, end in pairwise(bounds)]
        for turn in range(size - 1):  # reduce-scatter: in the end part rank + 1 is complete here
            into = parts[(rank - turn - 1) % size]
            received = array("f", bytes(into.nbytes))
            self._exchange(parts[(rank - turn) % size], memoryview(received))
            into[:] = array("f", map(add, into, received))
        for turn in range(size - 1):  # all-gather: the complete parts go round
            self._exchange(parts[(rank + 1 - turn) % size], parts[(rank - turn) % size])

    def _exchange(self, outgoing: memoryview, incoming: memoryview) -> None:
        sending = self._sender.submit(self._peer.sendall, outgoing)
        rest = incoming.cast("B")
        while rest:
            received = self._peer.recv_into(rest)
            if received == 0:
                raise ConnectionError("the other rank closed the connection")
            rest = rest[received:]
        sending.result()

    def close(self) -> None:
        """Close the connection."""
        self._sender.shutdown()
        self._peer.close()


def _accept(address: str, port: int) -> socket.socket:
    with socket.create_server((address, port)) as server:
        server.settimeout(SECONDS)
        peer, _ = server.accept()
    peer.settimeout(SECONDS)
    return peer


def _connect(address: str, port: int) -> socket.socket:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return socket.create_connection((address, port), timeout=SECONDS)
        except ConnectionRefusedError:  # the other rank does not listen yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
