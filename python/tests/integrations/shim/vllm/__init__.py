"""As much of vLLM as OpenRLHF 0.11 touches: transformers generates, OpenRLHF's own WorkerWrap gets the weights by gloo."""

from __future__ import annotations

import asyncio
import importlib
import threading
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

__version__ = "0.29.0"


@dataclass
class SamplingParams:
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    max_tokens: int | None = None
    min_tokens: int = 1
    skip_special_tokens: bool = False
    logprobs: int | None = None


class AsyncEngineArgs:
    def __init__(self, **options: Any) -> None:
        self.__dict__.update(options)


class AsyncLLMEngine:
    @classmethod
    def from_engine_args(cls, arguments: AsyncEngineArgs) -> AsyncLLMEngine:
        return cls(arguments)

    def __init__(self, arguments: Any) -> None:
        import torch
        import torch.distributed as dist
        from transformers import AutoModelForCausalLM

        torch.manual_seed(arguments.seed)
        if not dist.is_initialized():  # a world of its own, which WorkerWrap asks for
            dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        self.model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.bfloat16)
        self.model.load_weights = self._load
        module, _, name = arguments.worker_extension_cls.rpartition(".")
        self.worker = type("Worker", (getattr(importlib.import_module(module), name),), {})()
        self.worker.device = torch.device("cpu")
        self.worker.model_config = SimpleNamespace(dtype=torch.bfloat16)
        self.worker.model_runner = SimpleNamespace(model=self.model)
        self.busy = 0
        self.lock = threading.Lock()
        self.output_processor = SimpleNamespace(get_num_unfinished_requests=lambda: self.busy)

    def _load(self, weights: Any) -> None:
        for name, weight in weights:
            self.model.get_parameter(name).data.copy_(weight)

    async def is_sleeping(self) -> bool:
        return False

    async def _nothing(self, *arguments: Any, **options: Any) -> None:
        pass

    reset_prefix_cache = sleep = wake_up = pause_generation = resume_generation = _nothing

    async def collective_rpc(self, method: str, args: tuple[Any, ...] = ()) -> list[Any]:
        return [await asyncio.to_thread(self._call, method, args)]

    def _call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        from torch.overrides import TorchFunctionMode

        class OnProcessors(TorchFunctionMode):
            """WorkerWrap.update_weight makes a tensor on "cuda"."""

            def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                kwargs = dict(kwargs or {})
                if kwargs.get("device") == "cuda":
                    kwargs["device"] = "cpu"
                return function(*args, **kwargs)

        with OnProcessors():
            return getattr(self.worker, method)(*arguments)

    async def generate(self, prompt: Any, sampling: SamplingParams, request_id: str | None = None) -> Any:
        self.busy += 1
        try:
            yield await asyncio.to_thread(self._generate, prompt["prompt_token_ids"], sampling)
        finally:
            self.busy -= 1

    def _generate(self, prompt: list[int], sampling: SamplingParams) -> Any:
        import torch

        with self.lock, torch.no_grad():
            tokens = self.model.generate(
                torch.tensor([prompt]),
                do_sample=sampling.temperature > 0,
                temperature=sampling.temperature or None,
                top_p=sampling.top_p,
                max_new_tokens=sampling.max_tokens,
                min_new_tokens=sampling.min_tokens or 1,
            )[0, len(prompt) :].tolist()
        stopped = tokens[-1] == self.model.generation_config.eos_token_id
        output = SimpleNamespace(token_ids=tokens, text="", logprobs=None, finish_reason="stop" if stopped else "length")
        return SimpleNamespace(outputs=[output])
