"""A LoRA adapter's folder in peft's form, as a model that is ready to evaluate, or to be written.

    adapter_config.json          base, rank and scale by module (methods.low_rank.peft_form)
    adapter_model.safetensors    the updates, the head, whatever else was trained
    bertft.json                  task, class names, max_length, threshold, which peft cannot hold

peft reads the first two and passes over the third. Of a folder that peft itself wrote, the task is
told by ``task_type`` and the head's size, and the classes by the base's config.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bertft.assembly.adapted import Adapted
from bertft.config.model import ModelConfig
from bertft.errors import DataError, UsageError
from bertft.methods.low_rank import export
from bertft.methods.low_rank.peft_form import PREFIX, attach_peft, lora_settings, lora_tensors
from bertft.methods.part import Group, Part
from bertft.models.dropout import take_over
from bertft.models.load import head_parameters, load_config, load_model, load_tokenizer
from bertft.models.precision import Precision
from bertft.models.runner import EncoderRunner
from bertft.models.source import Source, find
from bertft.runs.atomic import write_json
from bertft.runs.json_file import read_object
from bertft.runs.tensors import read_tensors, write_tensors
from bertft.tasks.task import BaseTask, Threshold

__all__ = ["AdapterFolder", "is_adapter", "write_adapter"]

_CONFIG, _WEIGHTS, _OWN = "adapter_config.json", "adapter_model.safetensors", "bertft.json"

# Of question answering none: under it peft drops token_type_ids, and the answers are others.
_TASK_TYPES = {
    "AutoModelForSequenceClassification": "SEQ_CLS",
    "AutoModelForTokenClassification": "TOKEN_CLS",
}


def is_adapter(folder: Path) -> bool:
    return (folder / _CONFIG).is_file()


def write_adapter(
    folder: Path,
    adapted: Adapted,
    max_length: int,
    labels: list[str] | None,
    threshold: Threshold | None = None,
) -> dict[str, Tensor]:
    """Write the three files; the tensors. UsageError for a method that is more than low rank."""
    for part in adapted.parts:
        if not part.foldable:
            raise UsageError(
                f"the run has a {part.name} beside, which a LoRA adapter cannot hold", where="run",
                hint="bertft merge prefix=beside keeps both",
            )  # fmt: skip
        if part.trains_base:
            raise UsageError(
                f"the run trained weights of the base itself ({part.name})", where="run",
                hint="bertft merge writes the whole model",
            )  # fmt: skip
    model = adapted.model
    tensors = lora_tensors(model)
    settings = lora_settings(tensors)
    new = {
        name: each for name, each in model.named_parameters()
        if each.requires_grad and ".adapter." not in name
    }  # fmt: skip
    tensors |= {f"{PREFIX}{name}": each.detach().float().cpu() for name, each in new.items()}
    source = adapted.source
    write_json(
        folder / _CONFIG,
        {
            "base_model_name_or_path": source.load,
            "revision": source.revision if source.kind == "hub" else None,
            "task_type": _TASK_TYPES.get(adapted.task.auto_class),
            "modules_to_save": _modules(new, head_parameters(model)),
            **settings,
        },
    )
    write_tensors(folder / _WEIGHTS, tensors)
    facts: dict[str, Any] = {
        "task": adapted.task.name, "labels": labels, "max_length": max_length, "prefix": None,
    }  # fmt: skip
    if threshold is not None:
        facts["threshold"] = threshold
    write_json(folder / _OWN, facts)
    return tensors


def _modules(new: Mapping[str, Any], head: Mapping[str, Any]) -> list[str]:
    """What peft shall save whole: children of the model for the head, else the modules alone."""
    return sorted({
        name.split(".")[0] if name in head else name.rpartition(".")[0] for name in new
    })  # fmt: skip


class _Attached(Part):
    """The updates of an adapter: there to be run and folded, not to be trained."""

    name = "low_rank"

    def __init__(self, settings: Mapping[str, Any], tensors: dict[str, Tensor]) -> None:
        self.settings, self.tensors = settings, tensors

    def attach(self, model: nn.Module) -> None:
        attach_peft(model, self.settings, self.tensors)

    def groups(self, model: nn.Module) -> Iterator[Group]:
        return iter(())

    def counts(self, model: nn.Module) -> dict[str, int]:
        kept = sum(
            each.numel()
            for layer in export.adapted_layers(model).values()
            for each in layer.adapter.parameters()
        )
        return {"trainable": 0, "kept": kept, "exported": kept}

    def fold(self, model: nn.Module) -> int:
        return export.fold(model)


class AdapterFolder:
    """What lies in ``folder``, read and checked. DataError where it names no base or no weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = read_object(folder / _CONFIG)
        base = self.settings.get("base_model_name_or_path")
        if not isinstance(base, str) or not base:
            raise DataError(
                "names no base model", where=str(folder / _CONFIG),
                hint='Write its folder or Hub id there: "base_model_name_or_path": "..."',
            )  # fmt: skip
        self.source: Source = find(base, self.settings.get("revision"))
        if not (folder / _WEIGHTS).is_file():
            raise DataError(
                f"there is no {_WEIGHTS}", where=str(folder),
                hint="Weights in a .bin file are pickled code and are not read: save them again"
                " with safe_serialization=True",
            )  # fmt: skip
        self.tensors = read_tensors(folder / _WEIGHTS)
        own = folder / _OWN
        self.facts: dict[str, Any] = read_object(own) if own.is_file() else {}

    @property
    def auto_class(self) -> str:
        """The Auto class of the head. DataError if nothing tells it."""
        kind = self.settings.get("task_type")
        known = {value: name for name, value in _TASK_TYPES.items()}
        known["QUESTION_ANS"] = "AutoModelForQuestionAnswering"
        if kind not in known:
            raise DataError(
                f"task_type {kind!r} tells no head", where=str(self.folder / _CONFIG),
                hint=f"It can be {', '.join(known)}",
            )  # fmt: skip
        return known[kind]

    @property
    def model_settings(self) -> ModelConfig:
        return ModelConfig(
            name=self.folder.name, path=self.source.load, revision=self.source.revision
        )

    def tokenizer(self) -> Any:
        """The folder's own, where it keeps one, else the base's."""
        kept = any((self.folder / name).is_file() for name in ("tokenizer.json", "vocab.txt"))
        settings = self.model_settings
        if kept:
            settings.tokenizer = str(self.folder)
        return load_tokenizer(settings)

    def size(self, auto_class: str, tokenizer: Any) -> int:
        """Outputs of the head: the number with which the saved tensors fit the model."""
        import transformers

        saved = {
            name.removeprefix(PREFIX): each.shape
            for name, each in self.tensors.items()
            if ".lora_" not in name
        }
        builder = getattr(transformers, auto_class)
        for count in sorted({shape[0] for shape in saved.values()} | {2}):
            config, _ = load_config(self.model_settings, tokenizer, {"num_labels": count})
            with torch.device("meta"):
                model = builder.from_config(config)
            own = {name: each.shape for name, each in head_parameters(model).items()}
            if all(saved.get(name) == shape for name, shape in own.items()):
                return count
        raise DataError(
            "the adapter has no weights for the head: it would answer at random",
            where=str(self.folder), hint="Save it with modules_to_save naming the head",
        )  # fmt: skip

    def open(self, task: BaseTask, tokenizer: Any, precision: Precision, layout: str) -> Adapted:
        """The base with the adapter beside its layers, placed, in evaluation mode."""
        config, _ = load_config(self.model_settings, tokenizer, task.model_settings())
        loaded = load_model(self.model_settings, config, self.source, task.auto_class)
        model: Any = loaded.model
        take_over(model)
        part = _Attached(self.settings, self.tensors)
        try:
            part.attach(model)
        except DataError as error:
            raise DataError(error.what, where=str(self.folder), hint=error.hint) from error
        model.requires_grad_(False).eval()
        precision.prepare(model, False)
        runner = EncoderRunner(model, task.level, layout)
        return Adapted(task, tokenizer, model, [part], runner, precision, self.source)
