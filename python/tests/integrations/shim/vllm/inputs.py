"""vLLM's form of a prompt."""

TokensPrompt = dict
