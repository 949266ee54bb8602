"""As flash_attn."""
