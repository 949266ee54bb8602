"""Names that are imported, and not used on processors."""

from ..bert_padding import _needs_a_gpu

all_gather = _needs_a_gpu
