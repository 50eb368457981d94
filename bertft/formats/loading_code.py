"""The python lines that answer one text with what a folder holds, fitting its task and form.

Forms: "transformers", a plain folder that the Auto classes load; "peft", an adapter's folder that
names its base; "onnx", a graph (``onnx_code``). The lines run as they stand from where the folder
lies, and print the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from bertft.formats.onnx_code import onnx_code

__all__ = ["loading_code"]

_QUESTION, _CONTEXT = "Who wrote it?", "It was Ada who wrote it, in London."
# Tasks that transformers' own pipelines answer from a text alone.
_PIPELINES = {
    "token_classification": (
        "from transformers import pipeline",
        "",
        'recognise = pipeline("token-classification", {model}, aggregation_strategy="first")',
        'print(recognise("A sentence with names in it."))',
    ),
    "masked_lm": (
        "from transformers import pipeline",
        "",
        'fill = pipeline("fill-mask", {model})',
        'print(fill(f"A word is {{fill.tokenizer.mask_token}} here."))',
    ),
}
_TEXT, _SECOND = "A text to judge.", "A second text beside it."

# What the logits of one row mean, task by task.
_ANSWERS = {
    "classification": (
        "probabilities = logits.softmax(-1)",
        "print(labels[int(probabilities.argmax())], float(probabilities.max()))",
    ),
    "multi_label": (
        "probabilities = logits.sigmoid().tolist()",
        "print([name for name, p in zip(labels, probabilities) if p >= 0.5])",
    ),
    "regression": ("print(float(logits[0]))",),
}


def loading_code(
    folder: str,
    *,
    form: str,
    task: str,
    auto_class: str,
    labels: Sequence[str] | None = None,
    pair: bool = False,
    max_length: int | None = None,
    threshold: float | Mapping[str, float] | None = None,
) -> str:
    """Lines of python. A task without lines of its own gets the model's raw outputs.

    ``threshold``: of the second of two classes, or of each label, where one was tuned.
    """
    if form == "onnx":
        return onnx_code(
            folder, task=task, labels=labels, pair=pair, max_length=max_length, threshold=threshold
        )
    name = _quoted(folder)
    longest = "truncation=True" + (f", max_length={max_length}" if max_length else "")
    if form == "transformers" and task in _PIPELINES:
        return "\n".join(line.format(model=name) for line in _PIPELINES[task])
    if form == "transformers" and task == "classification":
        row = f'{{"text": "{_TEXT}", "text_pair": "{_SECOND}"}}' if pair else f'"{_TEXT}"'
        lines = [
            "from transformers import pipeline",
            "",
            f'classify = pipeline("text-classification", model={name})',
        ]
        if threshold is None:
            return "\n".join([*lines, f"print(classify({row}, {longest}))"])
        first, second = map(_quoted, labels or ())
        return "\n".join(
            [
                *lines,
                f"found = classify([{row}], top_k=None, {longest})[0]",
                'scores = {each["label"]: each["score"] for each in found}',
                f"print({second} if scores[{second}] >= {threshold!r} else {first}, scores)",
            ]
        )
    if task == "question_answering" and form == "transformers":
        return _span_code(name, auto_class, longest)
    texts = f'"{_TEXT}", "{_SECOND}"' if pair else f'"{_TEXT}"'
    lines = ["import torch"]
    if form == "peft":
        cls = f"AutoPeft{auto_class.removeprefix('Auto')}"
        classes = f", num_labels={len(labels) if labels else 1}" if task in _ANSWERS else ""
        lines += [f"from peft import {cls}", "from transformers import AutoTokenizer", ""]
        lines += [f"model = {cls}.from_pretrained({name}{classes}).eval()"]
        named = f"labels = [{', '.join(map(_quoted, labels))}]" if labels else None
    else:
        lines += [f"from transformers import {auto_class}, AutoTokenizer", ""]
        lines += [f"model = {auto_class}.from_pretrained({name}).eval()"]
        named = "labels = list(model.config.id2label.values())" if labels else None
    if named and task in _ANSWERS:
        lines.append(named)
    lines += [
        f"tokenizer = AutoTokenizer.from_pretrained({name})",
        f'inputs = tokenizer({texts}, {longest}, return_tensors="pt")',
        "with torch.no_grad():",
    ]
    answers = _answers(task, threshold)
    if answers is None:
        return "\n".join([*lines, "    outputs = model(**inputs)", "print(outputs)"])
    return "\n".join([*lines, "    logits = model(**inputs).logits[0]", *answers])


def _answers(task: str, threshold: float | Mapping[str, float] | None) -> Sequence[str] | None:
    """What the logits of one row mean, by ``threshold`` where there is one."""
    if threshold is None or task not in _ANSWERS:
        return _ANSWERS.get(task)
    if not isinstance(threshold, Mapping):
        return (
            "probabilities = logits.softmax(-1).tolist()",
            f"print(labels[int(probabilities[1] >= {threshold!r})], probabilities)",
        )
    each = ", ".join(f"{_quoted(name)}: {value!r}" for name, value in threshold.items())
    return (
        f"thresholds = {{{each}}}",
        "probabilities = logits.sigmoid().tolist()",
        "print([name for name, p in zip(labels, probabilities) if p >= thresholds[name]])",
    )


def _span_code(name: str, auto_class: str, longest: str) -> str:
    """The likeliest start, and the likeliest end after it; both at [CLS] are no answer."""
    longest = longest.replace("truncation=True", 'truncation="only_second"')
    return "\n".join(
        [
            "import torch",
            f"from transformers import {auto_class}, AutoTokenizer",
            "",
            f"model = {auto_class}.from_pretrained({name}).eval()",
            f"tokenizer = AutoTokenizer.from_pretrained({name})",
            f'question, context = "{_QUESTION}", "{_CONTEXT}"',
            f'inputs = tokenizer(question, context, {longest}, return_tensors="pt")',
            "with torch.no_grad():",
            "    outputs = model(**inputs)",
            "start = int(outputs.start_logits[0].argmax())",
            "end = start + int(outputs.end_logits[0, start:].argmax())",
            "print(tokenizer.decode(inputs.input_ids[0, start : end + 1]))",
        ]
    )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
