"""Histograms of times: sqrt(2)-spaced buckets, percentiles, sums. Pure functions."""

import math
from collections.abc import Mapping

# 2^20 ms is 17 minutes; whatever took longer is as slow.
MAX_BUCKET = 40


def bucket_of(ms: float) -> int:
    """The histogram bucket: bucket b holds 2^(b/2) <= ms < 2^((b+1)/2), everything under 1 is 0."""
    if ms < 1:
        return 0
    return min(MAX_BUCKET, math.floor(2 * math.log2(ms) + 1e-9))


def percentile(histogram: Mapping[str, int], p: float) -> float | None:
    """The `p`-th percentile (0 to 100) in ms, `None` of an empty histogram.

    Interpolated within its bucket on the logarithmic scale; off by at most 41 %, usually by less
    than 10 %.
    """
    counts = sorted((int(bucket), count) for bucket, count in histogram.items() if count > 0)
    total = sum(count for _, count in counts)
    if not total:
        return None
    rank = max(0.0, min(100.0, p)) / 100 * total
    passed = 0
    for bucket, count in counts:
        if passed + count >= rank:
            return float(2 ** ((bucket + (rank - passed) / count) / 2))
        passed += count
    return float(2 ** ((counts[-1][0] + 1) / 2))


def merge(*histograms: Mapping[str, int]) -> dict[str, int]:
    """The histogram of all of them together."""
    merged: dict[str, int] = {}
    for histogram in histograms:
        for bucket, count in histogram.items():
            merged[bucket] = merged.get(bucket, 0) + count
    return merged
