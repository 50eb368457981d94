"""The python lines that answer one text with an ONNX graph: numpy, onnxruntime, the tokenizer.

They run as they stand from where the folder lies, and print the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

__all__ = ["onnx_code"]

_TEXTS = {
    "question_answering": ("Who wrote it?", "It was Ada who wrote it, in London."),
    "token_classification": ("A sentence with names in it.",),
    "masked_lm": ("A word is {tokenizer.mask_token} here.",),
}
_SOFTMAX = (
    "probabilities = np.exp(logits - logits.max())",
    "probabilities /= probabilities.sum()",
)
# What the outputs for one row mean, task by task.
_ANSWERS = {
    "classification": (
        *_SOFTMAX,
        "print(labels[int(probabilities.argmax())], float(probabilities.max()))",
    ),
    "multi_label": (
        "probabilities = 1 / (1 + np.exp(-logits))",
        "print([name for name, p in zip(labels, probabilities) if p >= 0.5])",
    ),
    "regression": ("print(float(logits[0]))",),
    "token_classification": (
        'tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())',
        "print(list(zip(tokens, [labels[number] for number in logits.argmax(-1)])))",
    ),
    "masked_lm": (
        'masked = inputs["input_ids"][0] == tokenizer.mask_token_id',
        "print(tokenizer.convert_ids_to_tokens(logits[masked].argmax(-1).tolist()))",
    ),
    "question_answering": (
        "start = int(starts.argmax())",
        "end = start + int(ends[start:].argmax())",
        'print(tokenizer.decode(inputs["input_ids"][0, start : end + 1]))',
    ),
}


def onnx_code(
    folder: str,
    *,
    task: str,
    labels: Sequence[str] | None,
    pair: bool,
    max_length: int | None,
    threshold: float | Mapping[str, float] | None,
) -> str:
    """Lines of python. ``threshold``: of the second of two classes, or of each label."""
    name = json.dumps(folder, ensure_ascii=False)
    file = json.dumps(f"{folder}/model.onnx", ensure_ascii=False)
    texts = _TEXTS.get(task, ("A text to judge.", "A second text beside it.")[: 1 + pair])
    form = "f" if task == "masked_lm" else ""
    cut = '"only_second"' if task == "question_answering" else "True"
    longest = f"truncation={cut}" + (f", max_length={max_length}" if max_length else "")
    spans = task == "question_answering"
    lines = [
        "import numpy as np", "import onnxruntime", "from transformers import AutoTokenizer", "",
        f"tokenizer = AutoTokenizer.from_pretrained({name})",
        f"session = onnxruntime.InferenceSession({file})",
    ]  # fmt: skip
    if labels:
        lines.append(f"labels = {json.dumps(list(labels), ensure_ascii=False)}")
    given = ", ".join(form + json.dumps(text, ensure_ascii=False) for text in texts)
    return "\n".join(
        [
            *lines,
            f'encoded = tokenizer({given}, {longest}, return_tensors="np")',
            "inputs = {each.name: encoded[each.name] for each in session.get_inputs()}",
            f"{'starts, ends' if spans else 'logits'} = "
            f"{'(each[0] for each in session.run(None, inputs))' if spans else _FIRST}",
            *_answers(task, threshold),
        ]
    )


_FIRST = "session.run(None, inputs)[0][0]"


def _answers(task: str, threshold: float | Mapping[str, float] | None) -> Sequence[str]:
    if task == "classification" and isinstance(threshold, float):
        return (
            *_SOFTMAX, f"print(labels[int(probabilities[1] >= {threshold!r})], probabilities)",
        )  # fmt: skip
    if task == "multi_label" and isinstance(threshold, Mapping):
        each = ", ".join(
            f"{json.dumps(name, ensure_ascii=False)}: {value!r}"
            for name, value in threshold.items()
        )
        return (
            f"thresholds = {{{each}}}",
            "probabilities = 1 / (1 + np.exp(-logits))",
            "print([name for name, p in zip(labels, probabilities) if p >= thresholds[name]])",
        )
    return _ANSWERS.get(task, ("print(logits)",))
