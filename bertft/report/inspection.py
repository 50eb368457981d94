"""The output of ``bertft inspect``: tables for a terminal, a JSON object, the command to train."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bertft.config.command_configs import InspectRequest
from bertft.config.data import DataConfig
from bertft.config.overrides import format_value
from bertft.config.presets import preset_value
from bertft.config.schema import Leaf, find_setting, iter_leaves, settings_tree
from bertft.data.guess_columns import format_column
from bertft.data.readers.separators import SEPARATOR_NAMES
from bertft.pipeline.inspection import FormatFacts, Inspection, SampleFacts, TokenFacts
from bertft.report.console import line_printer, plain_console
from bertft.report.terminal_table import FittedTable
from bertft.tasks.report_items import Percent, TableItem, clip_text
from bertft.utils.messages import quote_for_shell, shorten
from bertft.utils.numbers import format_bytes, format_count
from bertft.utils.terminal import escape_controls

__all__ = ["inspection_to_json", "print_inspection", "train_command"]

_MAX_CLASSES, _MAX_COLUMNS = 8, 20
_LABEL_WIDTH, _NAME_WIDTH = 24, 24
_MIN_EXAMPLE_WIDTH = 12
# Texts that would be read as null, a number, a list or a quoted text.
_NEEDS_QUOTES = re.compile(r"(?i:null)|[+-]?\d+|[\[{'\"].*|\s.*|.*\s", re.DOTALL)
_FACTS_WIDTH = 57  # of the table of columns, without names and examples
_DEFAULT_PRESET = "files"


def print_inspection(
    inspection: Inspection, command: str | None, console: Console | None = None
) -> None:
    """Print the result and the ``command`` to train, which is not broken into lines."""
    console = console or plain_console()
    _print_facts(console, _iter_facts(inspection))
    if inspection.columns:
        item = _columns_table(inspection, console.width)
        console.print(FittedTable(item, droppable=("length", "empty")))
    if inspection.rows:
        console.print(_rows_table(inspection, console.width))
    findings = [finding.format_line() for finding in inspection.findings]
    for title, lines in (("findings:", findings), ("notes:", inspection.notes)):
        if lines:
            console.print(Text(title))
            _print_facts(console, [("  -", line) for line in lines])
    if command is not None:
        console.print(Text("next:"))
        line_printer(console)(f"  {command}")


def inspection_to_json(inspection: Inspection, command: str | None) -> dict[str, Any]:
    """The result as JSON values. ``command``: null if the rows cannot be loaded."""
    tokens, error = inspection.tokens, inspection.error
    return {
        "source": inspection.source,
        "sample": {**asdict(inspection.sample), "complete": inspection.sample.is_complete},
        "format": None if inspection.format is None else asdict(inspection.format),
        "columns": [asdict(column) for column in inspection.columns],
        "task": inspection.task,
        "task_reason": inspection.task_reason,
        "settings": dict(inspection.settings),
        "labels": dict(inspection.labels.most_common()),
        "label_statistics": dict(inspection.label_statistics),
        "tokens": None if tokens is None else asdict(tokens),
        "tokens_note": inspection.tokens_note,
        "findings": [asdict(finding) for finding in inspection.findings],
        "notes": list(inspection.notes),
        "first_rows": [asdict(row) for row in inspection.rows],
        "command": command,
        "error": None if error is None else str(error),
    }


def train_command(request: InspectRequest, inspection: Inspection) -> str:
    """The command that trains on the files, with the configured and the detected settings."""
    root, data = settings_tree("train"), request.data
    explicit = request.explicit_settings
    values: dict[str, Any] = {
        leaf.path: getattr(data, leaf.path.removeprefix("data."))
        for leaf in iter_leaves(root)
        if leaf.path in explicit and leaf.path.startswith("data.") and leaf.path != "data.train"
    }
    values |= {f"data.{name}": value for name, value in inspection.settings.items()}
    values |= _settings_for_invalid_rows(inspection, explicit)
    words = [_file_word(data.train)]
    if data.name != _DEFAULT_PRESET:
        words.append(f"data={data.name}")
    words += [
        _setting_word(leaf, values[leaf.path]) for leaf in iter_leaves(root) if leaf.path in values
    ]
    words += _model_words(request)
    return " ".join(["bertft", "train", *map(quote_for_shell, words)])


def _settings_for_invalid_rows(inspection: Inspection, explicit: frozenset[str]) -> dict[str, Any]:
    """Settings that skip the invalid rows, of which the sample has an estimate."""
    if not inspection.skipped or "data.on_bad_row" in explicit:
        return {}
    share = inspection.skipped / inspection.sample.rows
    if not inspection.sample.is_complete:
        share *= 2
    settings: dict[str, Any] = {"data.on_bad_row": "skip"}
    if share > DataConfig().max_skipped and "data.max_skipped" not in explicit:
        settings["data.max_skipped"] = min(1.0, math.ceil(share * 100) / 100)
    return settings


def _file_word(train: Any) -> str:
    """data.train as a positional argument, if it can be one."""
    if not isinstance(train, str):
        return f"data.train=[{','.join(map(str, train))}]"
    is_setting = find_setting(settings_tree("train"), train)[0] is not None
    is_plain = train == "-" or not train.startswith(("~", "-"))
    return train if is_plain and not is_setting and "=" not in train else f"data.train={train}"


def _model_words(request: InspectRequest) -> list[str]:
    """The settings of the model that are on the command line."""
    model, words = request.model, []
    for path in sorted(request.explicit_settings):
        if path == "model":
            is_preset = model.path == preset_value("model", model.name, "path")
            words.append(f"model={model.name if is_preset else model.path}")
        elif path.startswith("model."):
            leaf, _ = find_setting(settings_tree("train"), path)
            if isinstance(leaf, Leaf) and leaf.path == path:
                words.append(_setting_word(leaf, getattr(model, path.removeprefix("model."))))
    return words


def _setting_word(leaf: Leaf, value: Any) -> str:
    """``path=value`` as on a command line, before the quotes of the shell."""
    if isinstance(value, (list, tuple)):
        text = f"[{','.join(map(format_column, value))}]"
    elif not isinstance(value, str):
        text = format_value(value)
    elif value == "\t":
        text = "tab"
    else:
        text = format_value(value) if _NEEDS_QUOTES.fullmatch(value) else value
    return f"{leaf.path}={text}"


def _print_facts(console: Console, facts: Iterable[tuple[str, str]]) -> None:
    """Print names and texts in two columns; texts wrap between words."""
    lines = list(facts)
    indent = max(len(name) for name, _ in lines) + 1
    for name, fact in lines:
        wrapped = Text(escape_controls(fact)).wrap(console, max(1, console.width - indent))
        for number, text in enumerate(wrapped):
            start = name if number == 0 else ""
            console.print(Text(f"{start:<{indent}}{text.plain.rstrip()}"), soft_wrap=True)


def _iter_facts(inspection: Inspection) -> Iterator[tuple[str, str]]:
    sample = inspection.sample
    size = format_bytes(sample.total_bytes)
    files = f"{sample.files:,} files, " if sample.files > 1 else ""
    yield "file", f"{inspection.source} ({files}{size})"
    if inspection.format is not None:
        yield "format", _describe_format(inspection.format)
    yield "rows", _describe_sample(sample)
    yield "task", f"{inspection.task}: {inspection.task_reason}"
    if inspection.labels:
        yield "labels", _describe_labels(inspection)
    elif inspection.label_statistics:
        values = inspection.label_statistics.items()
        yield "labels", ", ".join(f"{name} {value:.3g}" for name, value in values)
    if inspection.tokens is not None:
        scope = ""
        if inspection.tokens.rows < inspection.sample.rows - inspection.skipped:
            scope = f"of {inspection.tokens.rows:,} rows: "
        yield "tokens", scope + _describe_tokens(inspection.tokens)
    elif inspection.tokens_note:
        yield "tokens", inspection.tokens_note


def _describe_format(facts: FormatFacts) -> str:
    parts = [facts.name if facts.compression is None else f"{facts.name} in {facts.compression}"]
    if facts.encoding is not None:
        parts.append(f"encoding {facts.encoding}")
    if facts.separator is not None:
        separator = SEPARATOR_NAMES.get(facts.separator, repr(facts.separator))
        parts.append(f"columns separated by {separator}")
        quotes = "enclose fields" if facts.quoting else "are ordinary characters"
        parts.append(f"double quotes {quotes}")
        parts.append("with a header" if facts.header else "without a header")
    return ", ".join(parts)


def _describe_sample(sample: SampleFacts) -> str:
    if sample.is_complete:
        return f"{format_count(sample.rows)}, all read"
    total = ""
    if sample.total_rows is not None:
        total = f"about {sample.total_rows:,}; "
    size = f" ({format_bytes(sample.sampled_bytes)})" if sample.sampled_bytes else ""
    return (
        f"{total}a sample of {sample.rows:,} rows{size}: {sample.method}. All counts below are"
        " those of the sample"
    )


def _describe_labels(inspection: Inspection) -> str:
    counts = inspection.labels
    total = counts.total()
    shown = [
        f"{shorten(name, 30)} {count:,} ({count / total:.1%})"
        for name, count in counts.most_common(_MAX_CLASSES)
    ]
    more = f", … ({len(counts):,} classes)" if len(counts) > _MAX_CLASSES else ""
    return ", ".join(shown) + more


def _describe_tokens(tokens: TokenFacts) -> str:
    lengths = tokens.lengths
    unit = "per row" if tokens.cut_rows is not None else "per input"
    text = (
        f"median {lengths['median']:.0f}, 90 % up to {lengths['90 %']:.0f}, longest"
        f" {lengths['max']:.0f} {unit}, with the tokenizer of {tokens.model};"
        f" data.max_length={tokens.max_length} "
    )
    if tokens.cut_rows is None:
        text += f"splits {tokens.split_rows:.1%} of the rows into several inputs"
    else:
        text += f"cuts {tokens.cut_rows:.1%} of the rows and {tokens.cut_tokens:.1%} of the tokens"
    if tokens.unknown is not None:
        text += f"; {tokens.unknown:.1%} of the tokens are unknown"
    return text


def _columns_table(inspection: Inspection, width: int) -> TableItem:
    """One line per column: the examples are shortened to the rest of ``width``."""
    columns = inspection.columns
    more = len(columns) - _MAX_COLUMNS
    rows = columns[0].rows
    scope = f"Of {rows:,} rows;" if rows < inspection.sample.rows else ""
    left_out = f"{more:,} more columns." if more > 0 else ""
    names = [_truncate(str(column.name), _NAME_WIDTH) for column in columns]
    example_width = max(_MIN_EXAMPLE_WIDTH, width - _FACTS_WIDTH - max(map(cell_len, names)))
    return TableItem(
        "columns",
        "Columns",
        " ".join(filter(None, [scope, "length: mean number of characters.", left_out])),
        head=("column", "read as", "type", "distinct", "empty", "length", "example"),
        rows=[
            (
                name,
                column.role,
                column.kind,
                column.distinct,
                Percent(column.empty / max(1, rows)),
                round(column.mean_length),
                _truncate(clip_text(column.example), example_width),
            )
            for name, column in list(zip(names, columns, strict=True))[:_MAX_COLUMNS]
        ],
        kinds=("text", "text", "text", "number", "number", "number", "text"),
    )


def _rows_table(inspection: Inspection, width: int) -> Table:
    """The first rows as the model reads them, one line each, in ``width`` columns."""
    rows = [
        (
            row.location.removeprefix(inspection.source).lstrip(":, /"),
            _truncate(" ".join(row.label.split()), _LABEL_WIDTH),
            " ".join(row.tokens),
        )
        for row in inspection.rows
    ]
    columns = [("row", [row[0] for row in rows])]
    if any(row[1] for row in rows):
        columns.append(("label", [row[1] for row in rows]))
    table = Table(title="First rows, as the model reads them", title_justify="left")
    rest = width - 4
    for name, cells in columns:
        column_width = max(map(cell_len, [name, *cells]))
        table.add_column(name, width=column_width, no_wrap=True)
        rest -= column_width + 3
    table.add_column("tokens", no_wrap=True)
    tokens = [_truncate(text, max(1, rest)) for _, _, text in rows]
    for row in zip(*(cells for _, cells in columns), tokens, strict=True):
        table.add_row(*map(Text, row))
    return table


def _truncate(text: str, width: int) -> str:
    """``text`` in at most ``width`` cells of a terminal."""
    shortened = Text(escape_controls(text))
    shortened.truncate(width, overflow="ellipsis")
    return shortened.plain
