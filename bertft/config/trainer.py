"""``trainer``: optimization, precision, evaluation and checkpoints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bertft.config.choices import FORMER_LAYOUTS, LAYOUTS, PRECISIONS
from bertft.config.registry import OPTIMIZERS
from bertft.config.setting import MAX_LEARNING_RATE, setting

__all__ = ["TrainerConfig", "step_at"]


@dataclass
class TrainerConfig:
    """``trainer``"""

    epochs: float | None = setting(
        None,
        "Number of passes over the training rows. Null: method.epochs.",
        above=0,
        at_most=1_000_000,
        on_resume="increase",
    )
    max_steps: int | None = setting(
        None,
        "Number of optimizer steps, instead of trainer.epochs. 0: only evaluate the base and its"
        " head.",
        at_least=0,
        former="steps",
        on_resume="increase",
    )
    batch_size: int = setting(
        32, "Sequences per optimizer step: rows, or windows of long rows.", at_least=1
    )
    micro_batch: int | None = setting(
        None,
        "Sequences per forward pass. Gradients accumulate over the micro-batches of a step. Null:"
        " trainer.batch_size.",
        at_least=1,
    )
    learning_rate: float | None = setting(
        None,
        "Peak learning rate of all components. Null: each component's own.",
        above=0,
        at_most=MAX_LEARNING_RATE,
    )
    optimizer: str = setting(
        "adamw",
        "Optimizer. Other packages can add optimizers.",
        choices=OPTIMIZERS.names(),
    )
    optimizer_settings: Any = setting(
        {},
        "Settings of an optimizer from another package: trainer.optimizer_settings.<name>=<value>.",
    )
    schedule: str = setting(
        "linear",
        "Decay of the learning rate after warm-up.",
        choices=("linear", "cosine", "constant"),
    )
    warmup: float | None = setting(
        None,
        "Fraction of the steps used for learning rate warm-up. Null: method.warmup.",
        at_least=0,
        below=1,
    )
    weight_decay: float = setting(
        0.01,
        "Decoupled weight decay. Never applied to normalization weights, biases and prefixes.",
        at_least=0,
        at_most=1000,
    )
    beta1: float = setting(0.9, "β1 of AdamW.", at_least=0, below=1)
    beta2: float = setting(0.999, "β2 of AdamW.", at_least=0, below=1)
    epsilon: float = setting(1e-8, "ε of AdamW.", at_least=1e-37)
    ema: float | None = setting(
        None,
        "Decay of an exponential moving average of the trained weights, for example 0.99."
        " Evaluations and checkpoints use the average. Null: no average.",
        above=0,
        below=1,
    )
    max_grad_norm: float | None = setting(
        1.0,
        "Maximum global norm for gradient clipping. Null: no clipping.",
        above=0,
        former="clip",
    )
    precision: str = setting(
        "auto",
        "Precision of the computation. auto: bf16 if the hardware has instructions for it, else"
        " fp32. fp16 requires CUDA.",
        choices=("auto", *PRECISIONS),
    )
    device: str = setting(
        "auto",
        "Device: cpu, cuda, cuda:1, ... auto: CUDA if available, else CPU.",
        on_resume="change",
    )
    threads: int | None = setting(
        None, "Number of CPU threads. Null: PyTorch's default.", at_least=1, at_most=1024
    )
    layout: str = setting(
        "auto",
        "Layout of the sequences in a batch: unpadded (concatenated), packed (several per row) or"
        " padded. auto: unpadded. Some encoders, such as RemBERT and DeBERTa v1, always run padded,"
        " and some, such as ConvBERT, one row at a time.",
        choices=("auto", *LAYOUTS),
        former_choices=FORMER_LAYOUTS,
    )
    fused_layers: bool = setting(
        True,
        "On a CPU, compute layers with frozen weights by hand-written code that is faster. Layers"
        " that it does not support use transformers' code.",
    )
    cache_frozen: Any = setting(
        "auto",
        "Compute the frozen layers below all trained ones once and store their output on disk, for"
        " all epochs, seeds and jobs. Dropout in these layers is off then. auto: if only the head"
        " is trained, for at least one epoch, and the output takes at most 2 GB.",
        choices=("auto", "true", "false"),
    )
    shuffle_window: int = setting(
        50,
        "Number of batches within which rows are grouped by length. 1: fully random order.",
        at_least=1,
    )
    evaluate_every: int | None = setting(
        None, "Steps between evaluations. Null: once per epoch.", at_least=1
    )
    evaluations: int | None = setting(
        None,
        "Number of evaluations, at equal distances up to the last step, instead of"
        " trainer.evaluate_every.",
        at_least=1,
    )
    checkpoint_every: int | None = setting(
        None, "Steps between checkpoints. Null: at every evaluation.", at_least=1
    )
    keep_checkpoints: int = setting(
        1, "Number of older checkpoints to keep in addition to last and best.", at_least=0
    )
    patience: int | None = setting(
        None,
        "Early stopping: number of evaluations without improvement. Null: no early stopping.",
        at_least=1,
    )
    stop_at: float | None = setting(
        None,
        "Stop after this step, or this fraction of the steps if it is below 1. The schedule is that"
        " of the complete run, and resume=<run> continues it. Null: train to the end.",
        above=0,
        affects_result=False,
        on_resume="change",
    )
    gradient_checkpointing: bool = setting(
        False,
        "Recompute activations in the backward pass: less memory, about a third more time per"
        " step.",
    )
    compile: bool = setting(
        False,
        "Compile the encoder layers with torch.compile. Compilation takes about a minute; for long"
        " runs on CUDA.",
    )
    non_finite_limit: int = setting(
        5,
        "Stop after this many consecutive steps with a non-finite loss or gradient.",
        at_least=1,
    )
    on_collapse: str = setting(
        "warn",
        "If predictions no longer depend on the input: warn, stop with exit status 3, or retry"
        " from the last good checkpoint with half the learning rate.",
        choices=("warn", "stop", "retry"),
        on_resume="change",
    )
    max_retries: int = setting(
        3,
        "Only with trainer.on_collapse=retry: number of retries, after which the run stops.",
        at_least=1,
        on_resume="increase",
    )
    log_every: int = setting(
        10, "Steps between entries in metrics.jsonl.", at_least=1, on_resume="change"
    )
    trackers: Any = setting(
        [],
        "Experiment trackers to enable: a list of tensorboard, wandb, mlflow (tracking extra).",
        affects_result=False,
        on_resume="change",
    )


def step_at(fraction: float, total_steps: int) -> int:
    """The first step at which at least ``fraction`` of ``total_steps`` are taken; at least 1."""
    # The tolerance is for fractions such as 1/3, whose product with the steps is inexact.
    return max(1, math.ceil(fraction * total_steps - 1e-6))
