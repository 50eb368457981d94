"""Names of TrainingArguments, peft and run_glue.py, with the corresponding settings of bertft.

They are not supported. The error names the setting to use: ``num_train_epochs: unknown setting. In
bertft this is trainer.epochs``.
"""

from __future__ import annotations

__all__ = ["FOREIGN_MODELS", "FOREIGN_SETTINGS"]

FOREIGN_SETTINGS = {
    # transformers.TrainingArguments
    "num_train_epochs": "trainer.epochs",
    "per_device_train_batch_size": "trainer.batch_size (rows per step, over all devices)",
    "per_device_eval_batch_size": "nothing to set: evaluation batches by tokens",
    "gradient_accumulation_steps": "trainer.micro_batch (rows per forward pass)",
    "lr": "trainer.learning_rate",
    "lr_scheduler_type": "trainer.schedule",
    "warmup_ratio": "trainer.warmup (fraction of the steps)",
    "warmup_steps": "trainer.warmup (fraction of the steps)",
    "adam_beta1": "trainer.beta1",
    "adam_beta2": "trainer.beta2",
    "adam_epsilon": "trainer.epsilon",
    "optim": "trainer.optimizer",
    "fp16": "trainer.precision=fp16",
    "bf16": "trainer.precision=bf16",
    "eval_steps": "trainer.evaluate_every",
    "save_steps": "trainer.checkpoint_every",
    "save_total_limit": "trainer.keep_checkpoints",
    "logging_steps": "trainer.log_every",
    "early_stopping_patience": "trainer.patience",
    "metric_for_best_model": "data.metric",
    "load_best_model_at_end": "always done: eval, predict and merge use the best checkpoint",
    "label_smoothing_factor": "loss.label_smoothing",
    "report_to": "trainer.trackers",
    "resume_from_checkpoint": "resume",
    "output_dir": "hydra.run.dir",
    "torch_compile": "trainer.compile",
    "no_cuda": "trainer.device=cpu",
    "use_cpu": "trainer.device=cpu",
    # peft.LoraConfig, AdaLoraConfig, PrefixTuningConfig
    "r": "method.rank",
    "lora_r": "method.rank",
    "lora_alpha": "method.low_rank.alpha",
    "lora_dropout": "method.low_rank.dropout",
    "target_modules": "method.low_rank.targets",
    "init_lora_weights": "method.low_rank.start",
    "loraplus_lr_ratio": "method.low_rank.b_rate_ratio",
    "init_r": "method.initial_rank",
    "target_r": "method.rank",
    "tinit": "method.low_rank.begin (fraction of the steps)",
    "tfinal": "method.low_rank.end (fraction of the steps)",
    "deltaT": "method.low_rank.interval",
    "orth_reg_weight": "method.low_rank.orthogonality",
    "num_virtual_tokens": "method.prefix.length",
    "prefix_projection": "method.prefix.mlp",
    # run_glue.py, run_qa.py
    "model_name_or_path": "model=<preset> or model.path=<folder or Hub id>",
    "dataset_name": "data=<preset>, or data.hub with data.source=hub",
    "train_file": "data.train",
    "validation_file": "data.validation",
    "test_file": "data.test",
    "max_seq_length": "data.max_length",
    "max_train_samples": "data.max_train_rows",
    "max_eval_samples": "data.max_validation_rows",
    "doc_stride": "data.stride",
    "text_column_name": "data.text",
    "label_column_name": "data.label",
}

# Hub id → preset, for the error if a Hub id is given as a preset.
FOREIGN_MODELS = {
    "bert-base-uncased": "bert_base",
    "bert-large-uncased": "bert_large",
    "bert-base-chinese": "bert_base_chinese",
    "roberta-base": "roberta_base",
    "distilbert-base-uncased": "distilbert",
    "microsoft/deberta-v3-base": "deberta_v3_base",
    "answerdotai/ModernBERT-base": "modernbert_base",
    "sentence-transformers/all-MiniLM-L6-v2": "minilm",
}
