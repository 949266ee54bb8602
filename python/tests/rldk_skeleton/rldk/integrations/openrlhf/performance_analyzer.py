"""Skeleton."""


class PerformanceAnalyzer:
    origin = "rldk"
