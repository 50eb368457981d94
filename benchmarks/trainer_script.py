"""The peer of ``benchmarks.startup``: fine-tuning as a user of HF Trainer and peft writes it.

    python benchmarks/trainer_script.py <model folder> <train.tsv>

Says "first step" when the first optimizer step is done. ``datasets`` keeps the tokenised rows, so
that a second start finds them.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any


def main(model_folder: str, train_file: str) -> None:
    from datasets import load_dataset
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    class FirstStep(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            print("first step", flush=True)

    tokenizer = AutoTokenizer.from_pretrained(model_folder)

    def tokenize(rows: dict[str, Any]) -> Any:
        return tokenizer(rows["sentence"], truncation=True, max_length=128)

    data: Any = load_dataset("csv", data_files={"train": train_file}, delimiter="\t")
    data = data.map(tokenize, batched=True)
    model = AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=2)
    lora = LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"])
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(), max_steps=1, per_device_train_batch_size=32, use_cpu=True,
        report_to=[], save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        model=get_peft_model(model, lora), args=arguments, train_dataset=data["train"],
        data_collator=DataCollatorWithPadding(tokenizer), callbacks=[FirstStep()],
    )  # fmt: skip
    trainer.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
