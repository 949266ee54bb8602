"""assets.py FOLDER [HIDDEN_SIZE]: a tiny model with random weights, its tokenizer, and data, all made on the spot."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = ("the", "ring", "sends", "a", "packet", "to", "every", "rank", "and", "waits", "for", "slow", "link", "answer")


def main(folder: Path, hidden_size: int = 64) -> None:
    random.seed(0)
    torch.manual_seed(0)
    sentences = [" ".join(random.choices(WORDS, k=8)) for _ in range(200)]
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<pad>", "<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(sentences, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder / "model")
    fast.save_pretrained(folder / "model")

    def choose() -> str:
        return random.choice(sentences)

    data = {
        "sft": [{"input": choose(), "output": choose()} for _ in range(32)],
        "pairs": [{"prompt": choose(), "chosen": choose(), "rejected": choose()} for _ in range(32)],
        "prompts": [{"input": choose(), "label": "1"} for _ in range(32)],
    }
    for name, rows in data.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parameters = {"count": sum(p.numel() for p in model.parameters()), "bytes": sum(p.nbytes for p in model.parameters())}
    (folder / "parameters.json").write_text(json.dumps(parameters))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
