"""The reward of the PPO jobs, which OpenRLHF loads by its path."""

import torch


def reward_func(queries, prompts, labels):
    rewards = torch.tensor([float(len(set(query)) % 7) for query in queries])
    return {"rewards": rewards, "scores": rewards / 7, "extra_logs": {"distinct": rewards}}
