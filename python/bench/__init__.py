"""What netmon costs, as ratios to what the same work costs without it: ``python -m bench``, or ``make bench``.

Nothing here is part of the package netmon. Every ratio is one of medians of the same run: the sides take turns in short blocks,
in an order drawn anew each round, so that whatever slows the machine slows all of them.
"""
