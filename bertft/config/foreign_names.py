"""Names of TrainingArguments, peft and the run scripts of transformers, with the names of bertft.

They are not supported as settings. The error names the setting to use (``num_train_epochs: unknown
setting. In bertft this is trainer.epochs``), or the reason why there is none. Names that bertft has
too, such as ``max_steps``, are not listed. docs/coming_from.md shows the tables.
"""

from __future__ import annotations

import re

__all__ = [
    "FOREIGN_METHODS",
    "FOREIGN_MODELS",
    "FOREIGN_SETTINGS",
    "NO_METHOD",
    "NO_SETTING",
    "PEFT_NAMES",
    "SCRIPT_NAMES",
    "TRAINING_ARGUMENTS",
    "foreign_hint",
    "foreign_method_hint",
    "foreign_model_preset",
]

TRAINING_ARGUMENTS = {
    "num_train_epochs": "trainer.epochs",
    "per_device_train_batch_size": "trainer.batch_size (sequences per step, over all devices)",
    "lr": "trainer.learning_rate",
    "lr_scheduler_type": "trainer.schedule",
    "warmup_ratio": "trainer.warmup (fraction of the steps)",
    "warmup_steps": "trainer.warmup (fraction of the steps)",
    "adam_beta1": "trainer.beta1",
    "adam_beta2": "trainer.beta2",
    "adam_epsilon": "trainer.epsilon",
    "optim": "trainer.optimizer",
    "optim_args": "trainer.optimizer_settings",
    "fp16": "trainer.precision=fp16",
    "bf16": "trainer.precision=bf16",
    "activation_checkpointing": "trainer.gradient_checkpointing",
    "torch_compile": "trainer.compile",
    "label_smoothing_factor": "loss.label_smoothing",
    "eval_steps": "trainer.evaluate_every",
    "eval_strategy": "trainer.evaluate_every (steps; null: once per epoch)",
    "evaluation_strategy": "trainer.evaluate_every (steps; null: once per epoch)",
    "early_stopping_patience": "trainer.patience",
    "metric_for_best_model": "data.metric",
    "save_steps": "trainer.checkpoint_every",
    "save_strategy": "trainer.checkpoint_every (steps; null: at every evaluation)",
    "save_total_limit": "trainer.keep_checkpoints",
    "logging_steps": "trainer.log_every",
    "logging_strategy": "trainer.log_every (steps)",
    "report_to": "trainer.trackers",
    "disable_tqdm": "quiet=true",
    "log_level": "quiet=true",
    "output_dir": "hydra.run.dir",
    "run_name": "hydra.run.dir (the name of the folder is the name of the run)",
    "resume_from_checkpoint": "resume",
    "data_seed": "seed=<number> (order of the rows; data.seed: validation split and samples)",
    "no_cuda": "trainer.device=cpu",
    "use_cpu": "trainer.device=cpu",
    "group_by_length": "trainer.shuffle_window",
    "train_sampling_strategy": "trainer.shuffle_window",
    "label_names": "data.label",
}

PEFT_NAMES = {
    "r": "method.rank",
    "lora_r": "method.rank",
    "lora_alpha": "method.low_rank.alpha",
    "lora_dropout": "method.low_rank.dropout",
    "target_modules": "method.low_rank.targets",
    "layers_to_transform": "method.low_rank.targets (names of modules)",
    "layers_pattern": "method.low_rank.targets (names of modules)",
    "target_parameters": "method.low_rank.targets (linear layers)",
    "init_lora_weights": "method.low_rank.start",
    "loraplus_lr_ratio": "method.low_rank.b_rate_ratio",
    "bias": "method.base.train=biases",
    "init_r": "method.initial_rank",
    "target_r": "method.rank",
    "tinit": "method.low_rank.begin (fraction of the steps)",
    "tfinal": "method.low_rank.end (fraction of the steps)",
    "deltaT": "method.low_rank.interval",
    "orth_reg_weight": "method.low_rank.orthogonality",
    "num_virtual_tokens": "method.prefix.length",
    "prefix_projection": "method.prefix.mlp",
    "encoder_hidden_size": "method.prefix.mlp_hidden",
    "feedforward_modules": "method.ia3.feedforward",
    "projection_prng_key": "method.low_rank.projection_seed",
    "vera_dropout": "method.low_rank.dropout",
    "task_type": "data.task",
    "peft_type": "method",
    "base_model_name_or_path": "model.path",
}

SCRIPT_NAMES = {
    "model_name_or_path": "model=<preset> or model.path=<folder or Hub id>",
    "model_name": "model=<preset> or model.path=<folder or Hub id>",
    "tokenizer_name": "model.tokenizer",
    "model_revision": "model.revision",
    "dataset_name": "data=<preset>, or data=files data.source=hub data.hub=<Hub id>",
    "dataset_config_name": "data.subset (with data.source=hub)",
    "task_name": "data=<preset>",
    "train_file": "data.train",
    "validation_file": "data.validation",
    "test_file": "data.test",
    "max_seq_length": "data.max_length",
    "max_train_samples": "data.max_train_rows",
    "max_eval_samples": "data.max_validation_rows",
    "doc_stride": "data.stride",
    "version_2_with_negative": "data.unanswerable",
    "text_column_name": "data.text",
    "label_column_name": "data.label",
}

FOREIGN_SETTINGS = {**TRAINING_ARGUMENTS, **PEFT_NAMES, **SCRIPT_NAMES}

_PADDING = "Evaluation builds its batches by tokens, for most encoders without padding"
_FIRST_EVALUATION = "The first evaluation follows the first epoch, or trainer.evaluate_every steps"
_LOADER = "Features are read from a memory-mapped file by a thread; there are no worker processes"
_DISTRIBUTED = "torchrun starts several processes; gradients are summed without further options"
_SHARDING = "Every process holds the whole model; models are not sharded"
_HUB = "bertft merge writes a folder, and hf upload <repository> <folder> pushes it"
_TRACKER = "The trackers read it from their own environment variables"
_RESUMED = "A resumed run continues bit for bit, with all of its state"
_ADAPTER = "bertft adapts encoders itself, without this option of peft"
_INTERNAL = "bertft determines it from the model"
_CHECKPOINTS = (
    "Checkpoints include the state for resuming; an older best checkpoint has only the weights"
)

# Name → why bertft has no setting for it, and what it does instead.
NO_SETTING = {
    # transformers.TrainingArguments
    "gradient_accumulation_steps": "There is no number of accumulation steps: set"
    " trainer.batch_size (sequences per step) and trainer.micro_batch (sequences per forward"
    " pass); on one device, steps = batch_size / micro_batch",
    "per_device_eval_batch_size": _PADDING,
    "eval_accumulation_steps": _PADDING,
    "eval_do_concat_batches": _PADDING,
    "batch_eval_metrics": "Metrics are computed once, over all rows",
    "eval_use_gather_object": _PADDING,
    "prediction_loss_only": "Evaluation always computes the metrics of the task",
    "eval_delay": _FIRST_EVALUATION,
    "eval_on_start": "trainer.max_steps=0 evaluates the base without training",
    "load_best_model_at_end": "Always done: eval, predict and merge use the best checkpoint",
    "greater_is_better": (
        "The metric defines it; for a Python function in data.metric, set"
        " data.metric_direction=higher or lower"
    ),
    "lr_scheduler_kwargs": "The schedules of trainer.schedule have no options but trainer.warmup",
    "optim_target_modules": "The method selects the trained weights",
    "average_tokens_across_devices": "Always done: the loss is the mean over all rows (or labelled"
    " tokens) of a step, on all devices",
    "bf16_full_eval": "Evaluation uses trainer.precision",
    "fp16_full_eval": "Evaluation uses trainer.precision",
    "tf32": "fp32 uses full precision, not TF32; trainer.precision=bf16 is faster",
    "activation_checkpointing_kwargs": "trainer.gradient_checkpointing has no options",
    "gradient_checkpointing_kwargs": "trainer.gradient_checkpointing has no options",
    "torch_compile_backend": "trainer.compile has no options",
    "torch_compile_mode": "trainer.compile has no options",
    "use_liger_kernel": "Liger kernels are not supported",
    "liger_kernel_config": "Liger kernels are not supported",
    "use_cache": "Encoders have no cache of keys and values",
    "neftune_noise_alpha": "Noise in the embeddings is not supported; see model.dropout",
    "torch_empty_cache_steps": "CUDA's cache is emptied only after a step ran out of memory",
    "auto_find_batch_size": "Always done: after out of memory, micro-batches are halved;"
    " trainer.batch_size stays",
    "include_for_metrics": "A function in data.metric has the labels and the scores",
    "logging_dir": "Trackers write to the run folder; see trainer.trackers",
    "logging_first_step": "metrics.jsonl has one line per trainer.log_every steps",
    "logging_nan_inf_filter": "Non-finite steps are skipped; see trainer.non_finite_limit",
    "include_num_input_tokens_seen": "timings.jsonl has the tokens per second",
    "log_on_each_node": "Only the main process writes files and prints",
    "save_on_each_node": "Only the main process writes files and prints",
    "log_level_replica": "Only the main process writes files and prints",
    "project": _TRACKER,
    "trackio_space_id": "Trackio is not supported; see trainer.trackers",
    "trackio_bucket_id": "Trackio is not supported; see trainer.trackers",
    "trackio_static_space_id": "Trackio is not supported; see trainer.trackers",
    "save_only_model": _CHECKPOINTS,
    "enable_jit_checkpoint": "A checkpoint is always saved after the current step on SIGTERM",
    "push_to_hub": _HUB,
    "hub_token": _HUB,
    "hub_private_repo": _HUB,
    "hub_model_id": _HUB,
    "hub_strategy": _HUB,
    "hub_always_push": _HUB,
    "hub_revision": _HUB,
    "ignore_data_skip": _RESUMED,
    "restore_callback_states_from_checkpoint": _RESUMED,
    "full_determinism": (
        "On a CPU, the same seed and number of threads give the same result; CUDA kernels can be"
        " non-deterministic"
    ),
    "accelerator_config": "bertft does not use accelerate",
    "parallelism_config": _SHARDING,
    "dataloader_drop_last": "Every row is used in every epoch",
    "dataloader_num_workers": _LOADER,
    "dataloader_pin_memory": _LOADER,
    "dataloader_persistent_workers": _LOADER,
    "dataloader_prefetch_factor": _LOADER,
    "dataloader_multiprocessing_context": _LOADER,
    "dataloader_in_order": _LOADER,
    "remove_unused_columns": "Only data.text and data.label are read",
    "length_column_name": "The lengths are computed from the tokens",
    "ddp_find_unused_parameters": _DISTRIBUTED,
    "ddp_bucket_cap_mb": _DISTRIBUTED,
    "ddp_broadcast_buffers": _DISTRIBUTED,
    "ddp_static_graph": _DISTRIBUTED,
    "ddp_backend": _DISTRIBUTED,
    "ddp_timeout": _DISTRIBUTED,
    "local_rank": _DISTRIBUTED,
    "fsdp": _SHARDING,
    "fsdp_config": _SHARDING,
    "deepspeed": _SHARDING,
    "debug": "check=true runs one step on the longest rows",
    "skip_memory_metrics": "metrics.json always has the peak memory",
    "do_train": "bertft train trains and evaluates",
    "do_eval": "bertft train evaluates validation and test rows; bertft eval evaluates a run again",
    "do_predict": "Run bertft predict after training",
    "overwrite_output_dir": "A finished run is not overwritten: set hydra.run.dir",
    # peft
    "lora_bias": "The update has no bias; method.base.train=biases trains the biases of the base",
    "exclude_modules": "There is no exclusion: list the layers to update in"
    " method.low_rank.targets",
    "auto_mapping": _INTERNAL,
    "peft_version": "bertft export records it",
    "inference_mode": "bertft merge and bertft export write models for inference",
    "fan_in_fan_out": _INTERNAL,
    "token_dim": _INTERNAL,
    "num_transformer_submodules": _INTERNAL,
    "num_attention_heads": _INTERNAL,
    "num_layers": _INTERNAL,
    "total_step": "The number of steps follows from trainer.epochs or trainer.max_steps",
    "modules_to_save": "The head of the task is always trained and saved",
    "trainable_token_indices": (
        "Embeddings are trained only with method.base.train=everything (method=full,"
        " method=distill)"
    ),
    "ensure_weight_tying": "Tied embeddings are not adapted",
    "rank_pattern": "method=svd_lora chooses the rank of each layer during training",
    "alpha_pattern": "All layers have the same scale, see method.low_rank.alpha",
    "init_weights": "The method defines the initial weights (lora, svd_lora: method.low_rank.start;"
    " vera: method.low_rank.d_initial)",
    "init_ia3_weights": "The factors start at 1",
    "save_projection": "Always done: checkpoints and adapters contain A and B",
    "prompt_tuning_init": "The initialization of the prompt cannot be configured",
    "prompt_tuning_init_text": "The initialization of the prompt cannot be configured",
    "tokenizer_name_or_path": "The tokenizer is model.tokenizer",
    "tokenizer_kwargs": "The tokenizer is model.tokenizer",
    "megatron_config": _ADAPTER,
    "megatron_core": _ADAPTER,
    "loftq_config": "Quantized models are not supported",
    "use_qalora": "Quantized models are not supported",
    "qalora_group_size": "Quantized models are not supported",
    "eva_config": "Set method.low_rank.start=activations",
    "corda_config": "See method.low_rank.start for the initializations",
    "lora_ga_config": "See method.low_rank.start for the initializations",
    "velora_config": _ADAPTER,
    "alora_invocation_tokens": _ADAPTER,
    "monteclora_config": _ADAPTER,
    "layer_replication": _ADAPTER,
    "runtime_config": _ADAPTER,
    "use_bdlora": _ADAPTER,
    "arrow_config": _ADAPTER,
    "kasa_config": _ADAPTER,
}

# Name of a method in lower case, without separators → the settings of bertft.
FOREIGN_METHODS = {
    "adalora": "method=svd_lora",
    "dora": "method=lora method.low_rank.use_dora=true",
    "rslora": "method=lora method.low_rank.use_rslora=true",
    "pissa": "method=lora method.low_rank.start=principal",
    "loraplus": "method=lora method.low_rank.b_rate_ratio=16",
    "prefixtuning": "method=prefix",
    "ptuningv2": "method=prefix",
    "prompttuning": "method=prefix method.prefix.kind=prompt",
    "finetuning": "method=full",
    "fullfinetuning": "method=full",
    "linearprobing": "method=head",
    "knowledgedistillation": "method=distill",
}

_QUANTIZED = "Quantized models are not supported; see method=lora"
_OTHER_ADAPTER = "Not supported; other adapters are method=lora, method=ia3 and method=prefix"

# Name of a method, as above → why bertft does not have it.
NO_METHOD = {
    "qlora": _QUANTIZED,
    "qalora": _QUANTIZED,
    "loftq": _QUANTIZED,
    "ptuning": (
        "Not supported; the closest is prompt tuning: method=prefix method.prefix.kind=prompt"
    ),
    "adapter": _OTHER_ADAPTER,
    "loha": _OTHER_ADAPTER,
    "lokr": _OTHER_ADAPTER,
    "oft": _OTHER_ADAPTER,
    "boft": _OTHER_ADAPTER,
}

# Hub id → the preset of this model.
FOREIGN_MODELS = {
    "bert-base-uncased": "bert_base",
    "google-bert/bert-base-uncased": "bert_base",
    "bert-large-uncased": "bert_large",
    "google-bert/bert-large-uncased": "bert_large",
    "bert-base-chinese": "bert_base_chinese",
    "google-bert/bert-base-chinese": "bert_base_chinese",
    "roberta-base": "roberta_base",
    "FacebookAI/roberta-base": "roberta_base",
    "distilbert-base-uncased": "distilbert",
    "distilbert/distilbert-base-uncased": "distilbert",
    "deberta-v3-base": "deberta_v3_base",
    "microsoft/deberta-v3-base": "deberta_v3_base",
    "ModernBERT-base": "modernbert_base",
    "answerdotai/ModernBERT-base": "modernbert_base",
    "all-MiniLM-L6-v2": "minilm",
    "sentence-transformers/all-MiniLM-L6-v2": "minilm",
}


def foreign_model_preset(name: str) -> str | None:
    """The preset of a model that the Hub has under ``name``, with ``-`` or ``_``; None if none."""
    if "/" in name:
        return FOREIGN_MODELS.get(name)
    presets = {hub_id.casefold(): preset for hub_id, preset in FOREIGN_MODELS.items()}
    return presets.get(name.casefold().replace("_", "-"))


def foreign_method_hint(name: str) -> str | None:
    """The hint for the name of a method in another library; None for any other name."""
    word = re.sub(r"[\W_]", "", name.casefold().replace("+", "plus"))
    if word in FOREIGN_METHODS:
        return f"In bertft this is {FOREIGN_METHODS[word]}"
    return NO_METHOD.get(word) or NO_METHOD.get(word.removesuffix("s"))


def foreign_hint(name: str) -> str | None:
    """The hint for a name of another library; None for any other name."""
    if name in FOREIGN_SETTINGS:
        return f"In bertft this is {FOREIGN_SETTINGS[name]}"
    return NO_SETTING.get(name)
