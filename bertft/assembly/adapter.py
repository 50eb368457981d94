"""What the folder of an adapter in peft's format holds, and what it does not tell.

    adapter_config.json          base, kind of adapter, and what describes the tensors
    adapter_model.safetensors    the updates, the head, whatever else was trained
    bertft.json                  task, class names, max_length, what answers depend on, threshold,
                                 which peft cannot hold

peft reads the first two and passes over the third. Of a folder that peft itself wrote, the task is
told by ``task_type`` (by the class that was adapted, where that is null) and the head's size, the
classes by the base's config.json.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bertft.assembly.head_settings import HeadSettings
from bertft.config.messages import invalid_entry
from bertft.config.model import ModelConfig
from bertft.config.recorded import recorded_answering
from bertft.config.registry import TASKS, peft_types
from bertft.errors import DataError, EnvironmentFailed, UsageError
from bertft.methods.low_rank.peft_form import check_kind
from bertft.methods.peft_format import own_name
from bertft.models.config_file import read_config
from bertft.models.load import head_parameters, load_config, load_tokenizer
from bertft.models.source import Source, find
from bertft.models.stated import MOST_LABELS
from bertft.runs.json_file import read_object
from bertft.runs.tensors import read_tensors
from bertft.tasks import recognise

__all__ = ["CONFIG", "OWN", "TASK_TYPES", "WEIGHTS", "AdapterFolder", "is_adapter"]

CONFIG, WEIGHTS, OWN = "adapter_config.json", "adapter_model.safetensors", "bertft.json"
_PICKLED = "adapter_model.bin"

# Of question answering none: under it peft drops token_type_ids, and the answers are others.
TASK_TYPES = {
    "AutoModelForSequenceClassification": "SEQ_CLS",
    "AutoModelForTokenClassification": "TOKEN_CLS",
}
_HEADS = {
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
}


def is_adapter(folder: Path) -> bool:
    return (folder / CONFIG).is_file()


class AdapterFolder:
    """What lies in ``folder``, read and checked; ``base`` takes the place of the base it names.

    DataError for another kind of adapter, one that names no base or none that is there, and where
    there are no weights in safetensors.
    """

    def __init__(self, folder: Path, base: str | None = None, trust: bool = False) -> None:
        self.folder, self._file, self._given = folder, str(folder / CONFIG), base
        self._trust = trust
        self.settings = read_object(folder / CONFIG)
        with self.told():
            if self.settings.get("peft_type") == "LORA" or not self._is_known():
                check_kind(self.settings)
        if not (folder / WEIGHTS).is_file():
            pickled = (folder / _PICKLED).is_file()
            raise DataError(
                f"there is no {WEIGHTS}" + (f", only {_PICKLED}" if pickled else ""),
                where=str(folder),
                hint="Weights in a .bin file are pickled code and are not read: save them again"
                " with safe_serialization=True",
            )  # fmt: skip
        self.source = self._base()
        self.tensors = read_tensors(folder / WEIGHTS)
        for name, tensor in self.tensors.items():
            if not tensor.is_floating_point():
                raise DataError(
                    f"{name} is of type {str(tensor.dtype).removeprefix('torch.')}, not of"
                    " floating-point numbers", where=str(folder / WEIGHTS),
                    hint="Save the adapter again in float32, float16 or bfloat16",
                )  # fmt: skip
        self.facts = _facts(folder / OWN)
        self._check_embedding()

    def _base(self) -> Source:
        named = self._given or self.settings.get("base_model_name_or_path")
        if not isinstance(named, str) or not named:
            raise DataError(
                "names no base model", where=self._file,
                hint="Name it, as base=<folder or Hub id>, or there as base_model_name_or_path",
            )  # fmt: skip
        if not self._given and _is_lost_folder(named, self.folder):
            raise DataError(
                f"its base {named} is a folder that is not there", where=self._file,
                hint="The path was meant from where the adapter was exported. Name the base:"
                " base=<folder>",
            )  # fmt: skip
        revision = None if self._given else self.settings.get("revision")
        with self.told():
            return find(named, revision if isinstance(revision, str) else None)

    def _check_embedding(self) -> None:
        """DataError where the base's embedding was enlarged before the adapter was trained."""
        saved = {
            name: shape[0] for name, shape in self.shapes().items()
            if len(shape) == 2 and "embed" in name
        }  # fmt: skip
        if not saved:
            return
        with self.told():
            rows = getattr(read_config(self.source), "vocab_size", None)
        for name, count in saved.items():
            if isinstance(rows, int) and "position" not in name and count > rows:
                raise DataError(
                    f"it was trained on a base whose embedding was enlarged from {rows:,} to"
                    f" {count:,} tokens, which bertft does not do", where=str(self.folder),
                    hint=f"In Python: base.resize_token_embeddings({count}),"
                    " PeftModel.from_pretrained(base, ...).merge_and_unload(), save_pretrained with"
                    " the adapter's tokenizer; then run=<that folder>",
                )  # fmt: skip

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Errors about the base and the weights in the words of an adapter."""
        try:
            yield
        except (UsageError, EnvironmentFailed) as error:
            where = error.where or ""
            if where.startswith("model."):
                other = "Check base=" if self._given else "base=<folder or Hub id> names another"
                raise type(error)(
                    f"its base cannot be read: {error.what}",
                    where="base" if self._given else self._file,
                    hint=f"{error.hint}. {other}" if error.hint else other,
                ) from error
            if not where or where == CONFIG:
                raise type(error)(
                    error.what, where=self._file if where else str(self.folder), hint=error.hint
                ) from error
            raise

    @property
    def model_settings(self) -> ModelConfig:
        return ModelConfig(
            name=self.folder.name,
            path=self.source.load,
            revision=self.source.revision,
            trust_remote_code=self._trust,
        )

    def tokenizer(self) -> Any:
        """The folder's own, where it keeps one, else the base's.

        For a task_type of QUESTION_ANS peft gives the model no token types, in training either.
        """
        kept = any((self.folder / name).is_file() for name in ("tokenizer.json", "vocab.txt"))
        settings = self.model_settings
        if kept:
            settings.tokenizer = str(self.folder)
        with self.told():
            tokenizer = load_tokenizer(settings)
        if self.settings.get("task_type") == "QUESTION_ANS":
            names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
            tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names
        return tokenizer

    def task(self, tokenizer: Any, said: HeadSettings) -> tuple[str, list[str] | None]:
        """Name and classes of the task: the folder's own, else the base's, else the user's.

        UsageError where a head with several outputs may be for classes that exclude each other or
        for labels that do not, and nothing says which.
        """
        if "task" in self.facts:
            said.check_task(self.facts["task"])
            return self.facts["task"], said.class_names(self.facts["labels"], rename=False)
        head = self._head()
        with self.told():
            base, _ = load_config(self.model_settings, tokenizer, {})
        size = self._outputs(head, base, tokenizer)
        names: dict[int, str] = {number: f"LABEL_{number}" for number in range(size)}
        told: dict[str, Any] = {"architectures": [head], "id2label": names}
        if len(base.id2label) == size:
            told |= {
                name: getattr(base, name, None) for name in ("id2label", "label2id", "problem_type")
            }
        told["problem_type"] = said.problem_type(told.get("problem_type"), size)
        if head == _HEADS["SEQ_CLS"] and size > 1 and told["problem_type"] is None:
            raise UsageError(
                f"nothing says whether its {size} outputs are classes that exclude each other or"
                " labels that do not", where=self._file,
                hint=f"Set {said.prefix}task=classification or {said.prefix}task=multi_label",
            )  # fmt: skip
        name, labels = recognise(told)
        said.check_task(name)
        return name, said.class_names(labels)

    def _head(self) -> str:
        """The end of the class that was adapted. DataError if nothing tells it."""
        kind = self.settings.get("task_type")
        if isinstance(kind, str) and kind in _HEADS:
            return _HEADS[kind]
        mapping = self.settings.get("auto_mapping")
        adapted = mapping.get("base_model_class") if isinstance(mapping, dict) else None
        if kind is None and isinstance(adapted, str):
            for head in (*_HEADS.values(), "ForMaskedLM"):
                if adapted.endswith(head):
                    return head
        raise DataError(
            f"task_type {kind!r} tells no head", where=self._file,
            hint=f"It can be {', '.join(_HEADS)}",
        )  # fmt: skip

    def _outputs(self, head: str, base: Any, tokenizer: Any) -> int:
        """Outputs of the head: the number with which the saved tensors fit the model."""
        import transformers

        saved = self.shapes()
        builder = getattr(transformers, f"AutoModel{head}")

        def shapes(count: int) -> dict[str, torch.Size]:
            config, _ = load_config(self.model_settings, tokenizer, {"num_labels": count})
            with torch.device("meta"):
                model = builder.from_config(config)
            return {name: each.shape for name, each in head_parameters(model).items()}

        own = shapes(base.num_labels)
        others = {saved[name][0] for name in own if name in saved and saved[name].numel()}
        others = {count for count in others if count <= MOST_LABELS}
        for count in (base.num_labels, *sorted(others)):
            own = shapes(count)
            if all(saved.get(name, shape) == shape for name, shape in own.items()):
                return int(count)
        raise DataError(
            "the saved head fits no head of the base", where=str(self.folder),
            hint="Does the adapter belong to this base?",
        )  # fmt: skip

    def _is_known(self) -> bool:
        return self.settings.get("peft_type") in peft_types()

    def shapes(self) -> dict[str, torch.Size]:
        """Of whatever was saved whole."""
        named = {own_name(name): each.shape for name, each in self.tensors.items()}
        return {name: shape for name, shape in named.items() if name and ".lora_" not in name}


def _is_lost_folder(named: str, adapter: Path) -> bool:
    """Whether ``named`` is the relative folder of a base that an earlier version wrote."""
    own = (adapter / OWN).is_file() and named.endswith("/base") and not Path(named).is_absolute()
    return own and not Path(named).expanduser().is_dir()


def _facts(file: Path) -> dict[str, Any]:
    """What bertft itself kept beside an adapter; empty if it did not write it. DataError where it
    is of another form."""
    if not file.is_file():
        return {}
    content = read_object(file)
    labels, length = content.get("labels"), content.get("max_length")
    try:
        content["answering"] = recorded_answering(content.get("answering"))
    except ValueError as error:
        raise DataError(f"invalid value for 'answering' ({error})", where=str(file)) from None
    right = {
        "task": isinstance(content.get("task"), str) and content["task"] in TASKS,
        "labels": labels is None
        or (
            isinstance(labels, list)
            and all(isinstance(each, str) and each.strip() for each in labels)
            and len(set(labels)) == len(labels)
        ),
        "max_length": length is None or (type(length) is int and 0 < length < 1 << 31),
    }
    for name, is_right in right.items():
        if not is_right:
            raise DataError(invalid_entry(name, content.get(name)), where=str(file))
    return {"labels": None, "max_length": None, **content}
