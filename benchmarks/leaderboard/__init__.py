"""The accuracy of parameter-efficient methods at equal numbers of parameters, over seeds.

``python -m benchmarks.leaderboard`` trains what is missing, ``--page`` writes the page.
"""
