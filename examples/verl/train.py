"""A tiny language model with random weights, trained by verl's SFT trainer as it is, with the network in its logs.

    python examples/verl/train.py [FOLDER] [RANKS] [OPTION OF netmon run ...]

It writes a model and conversations into FOLDER, then becomes `netmon run -- torchrun ... -m verl.trainer.sft_trainer ...`. PPO
is the same: `netmon run -- python -m verl.trainer.main_ppo ...`. TensorBoard's files are in FOLDER/events. Where there is no
GPU, verl_cpu.py has verl use the processors.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pandas as pd
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = ["the", "ring", "sends", "a", "packet", "to", "every", "rank", "and", "waits", "for", "user", "assistant"]
TEMPLATE = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} </s>{% endfor %}"
TEMPLATE += "{% if add_generation_prompt %}assistant {% endif %}"


def write_model(folder: Path) -> None:
    """Write a model with random weights, and a tokenizer that knows these words."""
    names = ["<pad>", "<s>", "</s>", "<unk>", *WORDS]
    words = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))  # noqa: S106
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **special)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2, **sizes)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def write_data(file: Path) -> None:
    """Write conversations."""
    said = [" ".join(WORDS[number % (5 + place)] for place in range(8)) for number in range(32)]
    turns = [[{"role": "user", "content": one}, {"role": "assistant", "content": one}] for one in said]
    pd.DataFrame({"messages": turns}).to_parquet(file)


def main(folder: str = "runs/verl", ranks: str = "1", *options: str) -> None:
    """Train for four steps."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    write_model(place / "model")
    write_data(place / "data.parquet")
    environment = {**os.environ, "TENSORBOARD_DIR": str(place / "events")}
    device = "cuda"
    if not torch.cuda.is_available():
        device = "cpu"
        here = os.path.dirname(os.path.abspath(__file__))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
        environment |= {"VERL_USE_EXTERNAL_MODULES": "verl_cpu", "VERL_PLATFORM": "cpu", "VERL_ENGINE_DEVICE": "cuda"}
    command = f"""{sys.executable} -m netmon run {" ".join(options)} --
        {sys.executable} -m torch.distributed.run --standalone --nproc_per_node {ranks} -m verl.trainer.sft_trainer
        model.path={place}/model model.use_remove_padding=False +model.override_config.attn_implementation=eager
        engine.strategy=fsdp2 engine.use_torch_compile=False
        data.train_files={place}/data.parquet data.train_batch_size=8 data.micro_batch_size_per_gpu=2
        data.use_dynamic_bsz=False data.max_length=64 data.num_workers=0
        trainer.device={device} trainer.total_epochs=1 trainer.save_freq=2 trainer.resume_mode=disable
        hydra.run.dir={place} trainer.default_local_dir={place}/checkpoints trainer.logger=[console,tensorboard]"""
    os.execve(sys.executable, command.split(), environment)  # noqa: S606


if __name__ == "__main__":
    main(*sys.argv[1:])
