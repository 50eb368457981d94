"""Read an adapter folder in peft's format, and infer what the format does not record.

    adapter_config.json          base, adapter type, and the settings of the adapter
    adapter_model.safetensors    the updates, the head, and all other trained tensors
    bertft.json                  task, class names, max_length, answer settings and threshold,
                                 which peft's format has no entries for

peft reads the first two files and ignores the third. If peft wrote the folder, the task is inferred
from ``task_type`` (if null, from the class of the adapted model) and from the size of the head, and
the classes are read from the base's config.json.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bertft.config.model import ModelConfig
from bertft.config.registry import readers_by_peft_type
from bertft.config.task_facts import tasks_with
from bertft.errors import DataError, SystemResourceError, UsageError
from bertft.methods.low_rank.peft_format import check_peft_adapter
from bertft.methods.peft_format import model_name
from bertft.models.loading import head_parameters, load_config
from bertft.models.model_config import MAX_LABELS, read_model_config
from bertft.models.source import ModelSource, find_model_source
from bertft.models.tokenizer import load_tokenizer
from bertft.pipeline.head_settings import HeadSettings
from bertft.pipeline.model_info import INFO_FILE, read_model_info
from bertft.runs.tensor_files import read_tensors
from bertft.tasks.task import detect_task
from bertft.utils.safe_files import read_json_object

__all__ = [
    "CONFIG_FILE",
    "PEFT_TASK_TYPES",
    "WEIGHTS_FILE",
    "AdapterFolder",
    "is_adapter_folder",
]

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
_PICKLED_FILE = "adapter_model.bin"

# QUESTION_ANS is left out: with it, peft drops token_type_ids, which changes predictions.
PEFT_TASK_TYPES = {
    "AutoModelForSequenceClassification": "SEQ_CLS",
    "AutoModelForTokenClassification": "TOKEN_CLS",
}
_HEADS = {
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
}


def is_adapter_folder(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file()


class AdapterFolder:
    """The content of an adapter folder, read and checked.

    Args:
        base: folder or Hub id of the base; None: the base that the folder names.

    Raises:
        DataError: the adapter type is not supported, the base is not named or is missing, or
            there are no weights in safetensors.
    """

    def __init__(
        self, folder: Path, base: str | None = None, trust_remote_code: bool = False
    ) -> None:
        self.folder, self._base_override = folder, base
        self._config_path = str(folder / CONFIG_FILE)
        self._trust_remote_code = trust_remote_code
        self.settings = read_json_object(folder / CONFIG_FILE)
        with self.adapter_errors():
            if self.settings.get("peft_type") == "LORA" or not self._is_known_type():
                check_peft_adapter(self.settings)
        if not (folder / WEIGHTS_FILE).is_file():
            pickled = (folder / _PICKLED_FILE).is_file()
            raise DataError(
                f"has no {WEIGHTS_FILE}" + (f", only {_PICKLED_FILE}" if pickled else ""),
                where=str(folder),
                hint="Save the adapter again with safe_serialization=True. A .bin file is not"
                " read: it is pickled and may run code",
            )
        self.source = self._find_base()
        self.tensors = read_tensors(folder / WEIGHTS_FILE)
        for name, tensor in self.tensors.items():
            if not tensor.is_floating_point():
                raise DataError(
                    f"{name} has dtype {str(tensor.dtype).removeprefix('torch.')}, expected a"
                    " floating-point dtype",
                    where=str(folder / WEIGHTS_FILE),
                    hint="Save the adapter again in float32, float16 or bfloat16",
                )
        self.info = read_model_info(folder)
        self._check_vocabulary_size()

    def _find_base(self) -> ModelSource:
        base_name = self._base_override or self.settings.get("base_model_name_or_path")
        if not isinstance(base_name, str) or not base_name:
            raise DataError(
                "base_model_name_or_path is missing",
                where=self._config_path,
                hint=self._base_hint("<folder or Hub id>"),
            )
        if not self._base_override and _is_lost_folder(base_name, self.folder):
            raise DataError(
                f"the base folder {base_name} does not exist",
                where=self._config_path,
                hint=f"{self._base_hint('<folder>')}. The recorded path is relative to the folder"
                " in which the adapter was exported",
            )
        revision = None if self._base_override else self.settings.get("revision")
        with self.adapter_errors():
            return find_model_source(base_name, revision if isinstance(revision, str) else None)

    def _base_hint(self, value: str) -> str:
        """``base`` is a setting of some commands next to ``adapter``, not next to ``run``."""
        return (
            f"Set base_model_name_or_path in the file, or adapter={self.folder} (in place of run)"
            f" and base={value}"
        )

    def _check_vocabulary_size(self) -> None:
        """Raise DataError if the base's embedding was enlarged before the adapter was trained."""
        saved_rows = {
            name: shape[0]
            for name, shape in self.saved_shapes().items()
            if len(shape) == 2 and "embed" in name
        }
        if not saved_rows:
            return
        with self.adapter_errors():
            vocabulary_size = getattr(read_model_config(self.source), "vocab_size", None)
        for name, count in saved_rows.items():
            if (
                isinstance(vocabulary_size, int)
                and "position" not in name
                and count > vocabulary_size
            ):
                raise DataError(
                    "the adapter was trained on a base whose embedding was enlarged from"
                    f" {vocabulary_size:,} to {count:,} tokens, which is not supported",
                    where=str(self.folder),
                    hint=f"Merge it in Python: base.resize_token_embeddings({count}),"
                    " PeftModel.from_pretrained(base, ...).merge_and_unload(), save_pretrained with"
                    " the adapter's tokenizer; then set run=<that folder>",
                )

    @contextlib.contextmanager
    def adapter_errors(self) -> Iterator[None]:
        """Re-raise errors about the base and the weights with the path of the adapter file."""
        try:
            yield
        except (UsageError, SystemResourceError) as error:
            where = error.where or ""
            if where.startswith("model."):
                action = (
                    "Check the value of base"
                    if self._base_override
                    else f"{self._base_hint('<folder or Hub id>')} to use another base"
                )
                hint = (error.hint or "").replace("model.path=", "base=")
                raise type(error)(
                    f"the base of the adapter cannot be read: {error.what}",
                    where="base" if self._base_override else self._config_path,
                    hint=f"{hint}. {action}" if hint else action,
                ) from error
            if not where or where == CONFIG_FILE:
                raise type(error)(
                    error.what,
                    where=self._config_path if where else str(self.folder),
                    hint=error.hint,
                ) from error
            raise

    @property
    def model_settings(self) -> ModelConfig:
        return ModelConfig(
            name=self.folder.name,
            path=self.source.load,
            revision=self.source.revision,
            trust_remote_code=self._trust_remote_code,
        )

    def tokenizer(self) -> Any:
        """The tokenizer of the folder if it has one, else that of the base.

        If task_type is QUESTION_ANS, it returns no token types: peft does not pass them to the
        model, in training or later.
        """
        has_tokenizer = any(
            (self.folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")
        )
        settings = self.model_settings
        if has_tokenizer:
            settings.tokenizer = str(self.folder)
        with self.adapter_errors():
            tokenizer = load_tokenizer(settings)
        if self.settings.get("task_type") == "QUESTION_ANS":
            names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
            tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names
        return tokenizer

    def task_and_labels(
        self, tokenizer: Any, head_settings: HeadSettings
    ) -> tuple[str, list[str] | None]:
        """Name and classes of the task: from the folder, else from the base or ``head_settings``.

        Raises:
            UsageError: a head has several outputs, and it is not known whether they are mutually
                exclusive classes or independent labels.
        """
        if self.info.task is not None:
            head_settings.check_task(self.info.task)
            return self.info.task, head_settings.class_names(self.info.labels, rename=False)
        head = self._head_class()
        with self.adapter_errors():
            base_config, _ = load_config(self.model_settings, tokenizer, {})
        size = self._num_outputs(head, base_config, tokenizer)
        names: dict[int, str] = {number: f"LABEL_{number}" for number in range(size)}
        head_config: dict[str, Any] = {"architectures": [head], "id2label": names}
        if len(base_config.id2label or {}) == size:
            head_config |= {
                name: getattr(base_config, name, None)
                for name in ("id2label", "label2id", "problem_type")
            }
        head_config["problem_type"] = head_settings.problem_type(
            head_config.get("problem_type"), size
        )
        if head == _HEADS["SEQ_CLS"] and size > 1 and head_config["problem_type"] is None:
            raise UsageError(
                f"does not record whether the {size} outputs of the head are mutually exclusive"
                " classes or independent labels",
                where=self._config_path,
                hint="Set "
                + " or ".join(
                    f"{head_settings.prefix}task={name}"
                    for name in tasks_with("class_probabilities")
                ),
            )
        name, labels = detect_task(head_config)
        head_settings.check_task(name)
        return name, head_settings.class_names(labels)

    def _head_class(self) -> str:
        """The suffix of the adapted model's class name. DataError if it cannot be inferred."""
        task_type = self.settings.get("task_type")
        if isinstance(task_type, str) and task_type in _HEADS:
            return _HEADS[task_type]
        mapping = self.settings.get("auto_mapping")
        class_name = mapping.get("base_model_class") if isinstance(mapping, dict) else None
        if task_type is None and isinstance(class_name, str):
            for head in (*_HEADS.values(), "ForMaskedLM"):
                if class_name.endswith(head):
                    return head
        raise DataError(
            f"task_type {task_type!r} is not supported",
            where=self._config_path,
            hint=f"Set it to one of {', '.join(_HEADS)}",
        )

    def _num_outputs(self, head: str, base: Any, tokenizer: Any) -> int:
        """The number of outputs with which the head has the shapes of the saved tensors."""
        import transformers

        stored_shapes = self.saved_shapes()
        builder = getattr(transformers, f"AutoModel{head}")

        def shapes(count: int) -> dict[str, torch.Size]:
            config, _ = load_config(self.model_settings, tokenizer, {"num_labels": count})
            with torch.device("meta"):
                model = builder.from_config(config)
            return {name: weight.shape for name, weight in head_parameters(model).items()}

        head_shapes = shapes(base.num_labels)
        candidates = {
            stored_shapes[name][0]
            for name in head_shapes
            if name in stored_shapes and stored_shapes[name].numel()
        }
        candidates = {count for count in candidates if count <= MAX_LABELS}
        for count in (base.num_labels, *sorted(candidates)):
            head_shapes = shapes(count)
            if all(stored_shapes.get(name, shape) == shape for name, shape in head_shapes.items()):
                return int(count)
        raise DataError(
            "the shapes of the saved head do not match the base",
            where=str(self.folder),
            hint=f"{self._base_hint('<folder or Hub id>')} of the base that it was trained on",
        )

    def _is_known_type(self) -> bool:
        peft_type = self.settings.get("peft_type")
        return isinstance(peft_type, str) and peft_type in readers_by_peft_type()

    def saved_shapes(self) -> dict[str, torch.Size]:
        """Shapes of the saved tensors that replace a whole parameter, by parameter name."""
        shapes = {model_name(name): tensor.shape for name, tensor in self.tensors.items()}
        return {name: shape for name, shape in shapes.items() if name and ".lora_" not in name}


def _is_lost_folder(base_name: str, adapter: Path) -> bool:
    """Whether ``base_name`` is a missing relative path that an earlier version wrote."""
    written_by_bertft = (
        (adapter / INFO_FILE).is_file()
        and base_name.endswith("/base")
        and not base_name.startswith(("~", "/"))
    )
    return written_by_bertft and not Path(base_name).is_dir()
