"""Names that are imported, and not used on processors."""


def _needs_a_gpu(*arguments, **options):
    raise RuntimeError("this is not flash_attn, which needs a GPU")


index_first_axis = pad_input = rearrange = unpad_input = _needs_a_gpu
