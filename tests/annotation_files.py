"""Three texts with entities, as files in the formats of annotation tools."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from bertft.tasks.shared.word_splitting import split_words

Row = tuple[str, list[tuple[int, int, str]]]

ROWS: list[Row] = [
    ("EU rejects German call.", [(0, 2, "ORG"), (11, 17, "MISC")]),
    ("Ann Lee (Oslo) sang 😀 in  New\tYork.", [(0, 7, "PER"), (26, 34, "LOC"), (9, 13, "LOC")]),
    ("叶老桂说\r\n2019年 in 北京", []),
]
TAGS = [
    ["B-ORG", "O", "B-MISC", "O", "O"],
    ["B-PER", "I-PER", "O", "B-LOC", "O", "O", "O", "O", "B-LOC", "I-LOC", "O"],
    ["O"] * 9,
]


def _lines(rows: Sequence[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def doccano(rows: Sequence[Row]) -> str:
    return _lines(
        [
            {"id": number, "text": text, "label": [list(span) for span in spans], "Comments": []}
            for number, (text, spans) in enumerate(rows, start=1)
        ]
    )


def doccano_before_1_5(rows: Sequence[Row]) -> str:
    return _lines(
        [
            {"id": number, "text": text, "meta": {}, "annotation_approver": None, "labels": spans}
            for number, (text, spans) in enumerate(rows, start=1)
        ]
    )


def doccano_json(rows: Sequence[Row]) -> str:
    """The export JSON of versions before 1.0."""
    return _lines(
        [
            {
                "id": number,
                "text": text,
                "annotations": [
                    {"id": start, "prob": 0.0, "label": label, "start_offset": start,
                     "end_offset": end, "user": 1, "document": number}
                    for start, end, label in spans
                ],
                "meta": {},
            }
            for number, (text, spans) in enumerate(rows, start=1)
        ]
    )  # fmt: skip


def doccano_with_relations(rows: Sequence[Row]) -> str:
    entities = [
        [
            {"id": start, "label": label, "start_offset": start, "end_offset": end}
            for start, end, label in spans
        ]
        for _, spans in rows
    ]
    return _lines(
        [
            {"id": number, "text": text, "entities": of_row, "relations": [], "Comments": []}
            for number, ((text, _), of_row) in enumerate(zip(rows, entities, strict=True), start=1)
        ]
    )


def _regions(row: Row) -> list[dict[str, Any]]:
    text, spans = row
    return [
        {"start": start, "end": end, "text": text[start:end], "labels": [label]}
        for start, end, label in spans
    ]


def label_studio_task(number: int, row: Row, **changes: Any) -> dict[str, Any]:
    result = [
        {"value": region, "id": f"r{at}", "from_name": "label", "to_name": "text",
         "type": "labels", "origin": "manual"}
        for at, region in enumerate(_regions(row))
    ]  # fmt: skip
    annotation = {
        "id": 10 + number, "completed_by": 1, "result": result, "was_cancelled": False,
        "ground_truth": False, "created_at": "2023-01-01T00:00:00Z", "lead_time": 7.5,
        "prediction": {}, "result_count": 0, "task": number, "parent_prediction": None,
    }  # fmt: skip
    return {
        "id": number, "annotations": [annotation], "file_upload": "rows.txt", "drafts": [],
        "predictions": [], "data": {"text": row[0]}, "meta": {}, "inner_id": number,
        "total_annotations": 1, "updated_by": 1, **changes,
    }  # fmt: skip


def label_studio(rows: Sequence[Row]) -> str:
    return json.dumps([label_studio_task(number, row) for number, row in enumerate(rows, start=1)])


def label_studio_in_lines(rows: Sequence[Row]) -> str:
    return _lines([label_studio_task(number, row) for number, row in enumerate(rows, start=1)])


def label_studio_min(rows: Sequence[Row]) -> str:
    """A text without regions has no key ``label``."""
    return json.dumps(
        [
            {"text": row[0], "id": number, "annotator": 1, "annotation_id": 10 + number,
             "created_at": "2023-01-01T00:00:00Z", "lead_time": 7.5}
            | ({"label": _regions(row)} if row[1] else {})
            for number, row in enumerate(rows, start=1)
        ],
        indent=4,
    )  # fmt: skip


def label_studio_csv(rows: Sequence[Row]) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["text", "id", "label", "annotator", "annotation_id", "lead_time"])
    for number, row in enumerate(rows, start=1):
        label = json.dumps(_regions(row)) if row[1] else ""
        writer.writerow([row[0], number, label, 1, 10 + number, 7.5])
    return file.getvalue()


def spacy_pairs(rows: Sequence[Row]) -> str:
    return json.dumps([[text, {"entities": spans}] for text, spans in rows])


def spacy_pairs_in_lines(rows: Sequence[Row]) -> str:
    return _lines([[text, {"entities": spans}] for text, spans in rows])


def spacy_objects(rows: Sequence[Row]) -> str:
    return json.dumps([{"text": text, "entities": spans} for text, spans in rows], indent=2)


def cluener(rows: Sequence[Row]) -> str:
    objects = []
    for text, spans in rows:
        label: dict[str, dict[str, list[list[int]]]] = {}
        for start, end, name in spans:
            surfaces = label.setdefault(name, {})
            surfaces.setdefault(text[start:end], []).append([start, end - 1])
        objects.append({"text": text, "label": label})
    return _lines(objects)


def prodigy_task(row: Row, answer: str = "accept") -> dict[str, Any]:
    text, spans = row
    words = split_words(text)
    tokens = [
        {"text": text[start:end], "start": start, "end": end, "id": number, "ws": True}
        for number, (start, end) in enumerate(words)
    ]
    first, last = ({bound[side]: at for at, bound in enumerate(words)} for side in (0, 1))
    return {
        "text": text, "_input_hash": 71, "_task_hash": -5, "_is_binary": False, "tokens": tokens,
        "_view_id": "ner_manual",
        "spans": [
            {"start": start, "end": end, "token_start": first.get(start),
             "token_end": last.get(end), "label": label}
            for start, end, label in spans
        ],
        "answer": answer, "_timestamp": 1690000000,
    }  # fmt: skip


def prodigy(rows: Sequence[Row]) -> str:
    return _lines([prodigy_task(row) for row in rows])


# Tool → the extension of its file, and what writes it.
FILES: dict[str, tuple[str, Callable[[Sequence[Row]], str]]] = {
    "doccano": (".jsonl", doccano),
    "doccano before 1.5": (".jsonl", doccano_before_1_5),
    "doccano with relations": (".jsonl", doccano_with_relations),
    "doccano, JSON before 1.0": (".json", doccano_json),
    "Label Studio": (".json", label_studio),
    "Label Studio in lines": (".jsonl", label_studio_in_lines),
    "Label Studio, JSON-MIN": (".json", label_studio_min),
    "Label Studio, CSV": (".csv", label_studio_csv),
    "spaCy": (".json", spacy_pairs),
    "spaCy in lines": (".jsonl", spacy_pairs_in_lines),
    "spaCy in lines, .json": (".json", spacy_pairs_in_lines),
    "spaCy, objects": (".json", spacy_objects),
    "CLUENER": (".json", cluener),
    "Prodigy": (".jsonl", prodigy),
}
