"""``trainer``: the loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.config.choices import FORMER_LAYOUTS, LAYOUTS, PRECISIONS
from bertft.config.registry import OPTIMIZERS
from bertft.config.setting import MAX_LEARNING_RATE, setting

__all__ = ["TrainerConfig"]


@dataclass
class TrainerConfig:
    """``trainer``"""

    epochs: float | None = setting(
        None, "Passes over the training rows; null: the method's own.", above=0, at_most=1_000_000
    )
    max_steps: int | None = setting(
        None, "Optimizer steps instead of epochs.", at_least=1, former="steps"
    )
    batch_size: int = setting(32, "Rows an optimizer step.", at_least=1)
    micro_batch: int | None = setting(
        None,
        "Rows a forward pass; gradients accumulate up to batch_size. Null: batch_size.",
        at_least=1,
    )
    learning_rate: float | None = setting(
        None,
        "Peak learning rate of every part; null: each part's own.",
        above=0,
        at_most=MAX_LEARNING_RATE,
    )
    optimizer: str = setting(
        "adamw",
        "The optimizer, bertft's own or one of another package.",
        choices=OPTIMIZERS.names(),
    )
    optimizer_settings: Any = setting(
        {},
        "Settings of an optimizer of another package: trainer.optimizer_settings.<name>=<value>.",
    )
    schedule: str = setting(
        "linear", "Decay after warm-up.", choices=("linear", "cosine", "constant")
    )
    warmup: float | None = setting(
        None, "Share of the steps that warm up; null: the method's own.", at_least=0, below=1
    )
    weight_decay: float = setting(
        0.01,
        "Decoupled weight decay; never on norms, biases and prefixes.",
        at_least=0,
        at_most=1000,
    )
    beta1: float = setting(0.9, "AdamW's β1.", at_least=0, below=1)
    beta2: float = setting(0.999, "AdamW's β2.", at_least=0, below=1)
    epsilon: float = setting(1e-8, "AdamW's ε.", at_least=1e-37)
    max_grad_norm: float | None = setting(
        1.0,
        "Largest global norm of the gradients, which are scaled down to it; null: no clipping.",
        above=0,
        former="clip",
    )
    precision: str = setting(
        "auto",
        "auto: bf16 where the hardware multiplies it, else fp32. fp16 needs CUDA.",
        choices=("auto", *PRECISIONS),
    )
    device: str = setting("auto", "auto: CUDA if present, else CPU. Or cpu, cuda, cuda:1.")
    threads: int | None = setting(
        None, "CPU threads; null: torch's own choice.", at_least=1, at_most=1024
    )
    layout: str = setting(
        "auto",
        "Sequences in a batch: unpadded (one after another), packed (several per row) or padded;"
        " auto: unpadded.",
        choices=("auto", *LAYOUTS),
        former_choices=FORMER_LAYOUTS,
    )
    shuffle_window: int = setting(
        50,
        "Batches among which rows of similar length are put together; 1: pure shuffle.",
        at_least=1,
    )
    evaluate_every: int | None = setting(
        None, "Steps between evaluations; null: each epoch.", at_least=1
    )
    checkpoint_every: int | None = setting(
        None, "Steps between checkpoints; null: at each evaluation.", at_least=1
    )
    keep_checkpoints: int = setting(1, "Checkpoints kept beside last and best.", at_least=0)
    patience: int | None = setting(
        None, "Evaluations without a better metric before the run stops; null: never.", at_least=1
    )
    gradient_checkpointing: bool = setting(
        False, "Recompute activations in the backward pass: less memory, a third more time."
    )
    compile: bool = setting(
        False,
        "Compile the encoder's layers: a minute to begin with; for long runs on CUDA.",
    )
    non_finite_limit: int = setting(
        5, "Steps in a row with a non-finite loss or gradient before the run stops.", at_least=1
    )
    log_every: int = setting(10, "Steps between two lines of metrics.jsonl.", at_least=1)
    trackers: Any = setting(
        [], "Who else is told: a list of tensorboard, wandb, mlflow (extra: tracking)."
    )
