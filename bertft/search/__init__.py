"""Search for settings by successive halving, with proposals of Optuna's TPE sampler."""
