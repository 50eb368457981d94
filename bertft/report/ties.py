"""Which rows of a sweep tie with the best one: the difference is within the noise.

If every run of both rows has the statistics of its validation rows (``row_scores.npz``), the
paired bootstrap of ``bertft compare`` decides. Otherwise Welch's t-test at 5 % over the seeds does,
if both rows have several. If neither is possible, it is unknown whether the rows tie.

    |m_A − m_B| ≤ t(ν) · √(s_A²/n_A + s_B²/n_B)         ν: Welch–Satterthwaite
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from bertft.errors import BertftError
from bertft.report.result_rows import ResultRow
from bertft.runs.run_folder import RunFolder

__all__ = ["is_comparable", "is_within_seed_noise", "mark_ties"]

_DRAWS = 2_000
# Two-sided 5 % quantiles of Student's t for 1, 2, ... 30 degrees of freedom.
_T_QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_T_LIMIT = 1.96


def mark_ties(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """``rows`` with ``tie`` set: True or False against the best comparable row, None if unknown."""
    leaders = [row for row in rows if row.best]
    return [row if row.best else replace(row, tie=_ties_with_best(row, leaders)) for row in rows]


def _ties_with_best(row: ResultRow, leaders: Sequence[ResultRow]) -> bool | None:
    for leader in leaders:
        if not is_comparable(row, leader):
            continue
        tie = _is_within_row_noise(row, leader)
        return is_within_seed_noise(row, leader) if tie is None else tie
    return None


def is_comparable(row: ResultRow, other: ResultRow) -> bool:
    """Whether two different rows have a value of the same metric on the same data."""
    if row.settings == other.settings or row.mean is None or row.metric != other.metric:
        return False
    names = [name for name in row.settings if name.partition(".")[0] == "data"]
    return all(row.settings[name] == other.settings.get(name) for name in names)


def is_within_seed_noise(row: ResultRow, other: ResultRow) -> bool | None:
    """Whether the means do not differ by Welch's t-test; None if a row has only one run."""
    if None in (row.mean, row.std, other.mean, other.std):
        return None
    assert row.mean is not None and other.mean is not None
    assert row.std is not None and other.std is not None
    variance, other_variance = row.std**2 / row.runs, other.std**2 / other.runs
    total = variance + other_variance
    difference = abs(row.mean - other.mean)
    if total == 0:
        return difference == 0
    degrees_of_freedom = total**2 / (
        variance**2 / (row.runs - 1) + other_variance**2 / (other.runs - 1)
    )
    index = max(1, math.floor(degrees_of_freedom)) - 1
    quantile = _T_QUANTILES[index] if index < len(_T_QUANTILES) else _T_LIMIT
    return difference <= quantile * math.sqrt(total)


def _is_within_row_noise(row: ResultRow, other: ResultRow) -> bool | None:
    """Whether the paired interval contains 0; None without statistics of the same rows."""
    runs = [
        [RunFolder(job.folder) for job in result.jobs if job.metrics is not None]
        for result in (row, other)
    ]
    # torch takes seconds to import, and a sweep that has no statistics does not need it.
    if not all(run.row_statistics_path.is_file() for group in runs for run in group):
        return None
    from bertft.report.compare.bootstrap import bootstrap_metrics, paired_difference
    from bertft.report.compare.row_statistics import read_row_statistics

    try:
        statistics = [[read_row_statistics(run) for run in group] for group in runs]
    except BertftError:  # damaged: bertft compare computes them again
        return None
    first = statistics[0][0]
    if first is None:
        return None
    for run_statistics in (entry for group in statistics for entry in group):
        if run_statistics is None or run_statistics.fingerprint != first.fingerprint:
            return None
        if run_statistics.rows.tobytes() != first.rows.tobytes():
            return None
    values = [
        bootstrap_metrics([entry.metric for entry in group if entry], len(first.rows), _DRAWS)
        for group in statistics
    ]
    difference = paired_difference(*values)
    return bool(difference.low <= 0 <= difference.high)
