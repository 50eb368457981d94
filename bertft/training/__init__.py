"""The training loop, the optimizer step, evaluation, and the processes of a distributed run."""
