"""The pages of ``bertft --help`` and ``bertft <command> --help``, generated from the schema.

bertft train --help                      at most 30 lines: the settings that are used most
bertft train --help trainer              one topic: a group of settings, presets, options
bertft train --help trainer.batch_size   one setting, also by its last name
bertft train --help svd_lora             one preset
bertft train --help all                  every preset and setting
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import bertft
from bertft.config.command_configs import COMMAND_CONFIGS, TRAINING_COMMANDS
from bertft.config.foreign_names import FOREIGN_SETTINGS, foreign_hint
from bertft.config.former_names import current_path
from bertft.config.positional import format_usage
from bertft.config.presets import (
    default_presets,
    find_presets,
    preset_groups,
    preset_summary,
    read_preset,
)
from bertft.config.schema import Leaf, Node, find_setting, iter_leaves, iter_nodes, settings_tree
from bertft.config.values import format_bounds
from bertft.utils.messages import Problem, suggest, usage_error

__all__ = ["MOST_USED", "command_page", "main_page"]

_WIDTH = 100
_SHORT_WIDTH = 80
_SHORT_PAGE_LINES = 30
_SWEEP_OPTIONS = """\
  -m, --multirun            one run per combination of values: method=lora,svd_lora seed=0,1,2
"""
_OPTIONS = """\
  --config-dir <folder>     your own presets, in subfolders named like the groups
  --cfg job                 print the configuration and exit; --resolve also resolves ${...}
  --info                    print the sources of the configuration and exit
  --help [topic]            print this page, or the page of a topic, setting or preset"""
_EXAMPLES = {
    "train": (
        "bertft train tickets.csv data.text=message data.label=team",
        "bertft train tickets.csv method=svd_lora model=bert_base trainer.epochs=5",
    ),
    "tune": (
        "bertft tune tickets.csv method=lora tune.trials=16",
        "bertft tune tickets.csv tune.time=30m 'tune.space.method.rank=choice(2,4,8)'",
    ),
    "cross_validate": (
        "bertft cross_validate tickets.csv folds=5",
        "bertft cross_validate tickets.csv folds=10 data.group=customer",
    ),
    "eval": ("bertft eval RUN", "bertft eval RUN new.csv"),
    "predict": (
        "bertft predict RUN new.csv output=predictions.csv",
        "bertft predict RUN text='A film to remember.'",
    ),
    "merge": ("bertft merge RUN merged", "bertft merge runs=[RUN,RUN2] how=greedy out=soup"),
    "export": ("bertft export RUN adapter", "bertft export RUN graph format=onnx"),
    "verify": ("bertft verify RUN",),
    "report": ("bertft report RUN",),
    "compare": ("bertft compare RUN OTHER_RUN", "bertft compare outputs/sweep against=RUN"),
    "init": ("bertft init", "bertft init tickets.csv my.yaml"),
    "inspect": (
        "bertft inspect tickets.csv",
        "bertft inspect tickets.csv data.label=team model=roberta_base",
    ),
    "doctor": ("bertft doctor",),
}
# The settings on the short page, in this order; for other commands those of the first level. An
# empty text stands for the first sentence of the setting's help.
MOST_USED = {
    "train": {
        "data.text": "text column, or [first,second]; null: the one named text",
        "data.label": "label column; null: the one named label",
        "data.validation": "validation file; null: a tenth of the rows",
        "data.task": "task type; see --help task",
        "data.max_length": "maximum number of tokens; null: 256 (questions: 384)",
        "method": "fine-tuning method; see --help method",
        "model": "encoder; see --help model",
        "model.path": "any other encoder: folder, Hub id or run",
        "trainer.epochs": "passes over the rows; null: that of the method",
        "trainer.batch_size": "sequences per optimizer step: rows or windows",
        "trainer.learning_rate": "peak learning rate; null: that of the method",
        "trainer.patience": "early stopping: evaluations without improvement",
        "trainer.precision": "fp32, bf16, fp16 or auto",
        "loss.class_weights": "balanced, or {label: weight}",
        "seed": "seed of new weights, dropout and the row order",
        "config": "YAML file of settings; see bertft init",
        "resume": "run folder to resume",
        "check": "dry run: memory, time and data, no training",
    },
    "tune": {
        "tune.trials": "configurations to try; null: as many as tune.time allows",
        "tune.time": "wall-clock budget, such as 45m",
        "tune.space": "{setting: distribution}; see --help space",
        "tune.seeds": "seeds to compare the best with the default",
        "tune.seed": "seed of the proposals",
        "data.text": "text column, or [first,second]; null: the one named text",
        "data.label": "label column; null: the one named label",
        "data.validation": "validation file; null: a tenth of the rows",
        "data.metric": "metric to optimize; null: that of the task",
        "method": "fine-tuning method; see --help method",
        "model": "encoder; see --help model",
        "trainer.epochs": "passes over the rows; null: that of the method",
        "trainer.batch_size": "rows per optimizer step",
        "trainer.evaluations": "number of evaluations, where trials can stop; null: 8",
        "seed": "seed of the trials",
        "config": "YAML file of settings; it can have a group tune",
    },
    "cross_validate": {
        "folds": "number of folds",
        "repeats": "number of repetitions, each with different folds",
        "data.text": "text column, or [first,second]; null: the one named text",
        "data.label": "label column; null: the one named label",
        "data.group": "column of groups, which are never split",
        "data.seed": "seed of the folds",
        "data.task": "task type; see --help task",
        "method": "fine-tuning method; see --help method",
        "model": "encoder; see --help model",
        "trainer.epochs": "passes over the rows; null: that of the method",
        "trainer.batch_size": "rows per optimizer step",
        "seed": "seed of new weights, dropout and the row order",
        "config": "YAML file of settings; see bertft init",
    },
    "predict": {
        "run": "",
        "adapter": "",
        "base": "base model of the adapter; null: as recorded",
        "input": "file, or - for standard input",
        "output": "",
        "keep": "input columns to copy to the output, or all",
        "text": "text to predict, or a list of texts",
        "question": "",
        "context": "",
        "columns": "",
        "separator": "",
        "encoding": "",
        "on_bad_row": "error or skip",
        "threshold": "decision threshold; null: that of the run",
        "checkpoint": "best, last or a step number",
        "precision": "",
        "device": "cpu, cuda, cuda:1 or auto",
        "trust_remote_code": "",
    },
}
MOST_USED["inspect"] = {
    "data.text": "text column, or [first,second]; null: detected",
    "data.label": "label column; null: detected",
    "data.task": "task type; detected if it is not set",
    "data.format": "format of the files; null: detected",
    "data.separator": "column separator; null: detected",
    "data.encoding": "text encoding; detected if it is not set",
    "data.header": "whether there is a header; null: detected",
    "data.max_length": "maximum number of tokens; null: 256 (questions: 384)",
    "model": "encoder whose tokenizer is used; see --help model",
    "model.path": "any other encoder: folder, Hub id or run",
    "rows": "",
    "output": "text, or json for one JSON object",
}
_GENERAL, _OPTIONS_TOPIC, _ALL = "general", "options", "all"


def main_page() -> str:
    """``bertft --help``."""
    lines = [
        f"bertft {bertft.__version__}: fine-tune BERT-family encoders from one command.",
        "",
        "  bertft <command> [setting=value ...]",
        "",
    ]
    width = max(map(len, COMMAND_CONFIGS)) + 2
    for name, cls in COMMAND_CONFIGS.items():
        lines.append(f"  {name:<{width}}{(cls.__doc__ or '').strip()}")
    lines += [
        "",
        "Examples",
        "  bertft train",
        "  bertft train reviews.csv method=svd_lora",
        "  bertft train -m method=lora,svd_lora method.rank=2,8 seed=0,1,2",
        "  bertft init reviews.csv",
        "",
        "Settings of a command: bertft <command> --help",
        'Completion in bash:    eval "$(bertft -sc install=bash)"',
    ]
    return "\n".join(lines)


def command_page(command: str, topic: str | None = None, config_dir: Path | None = None) -> str:
    """``bertft <command> --help [topic]``.

    Args:
        command: a key of ``COMMAND_CONFIGS``.
        topic: a group of settings, ``general``, ``options``, ``all``, a setting (its path or last
            name, also a name of transformers or peft) or a preset. None: the page of all settings
            if it has at most 30 lines, else the settings that are used most.
        config_dir: the folder of ``--config-dir``.

    Raises:
        UsageError: there is no such topic; with the closest one.
    """
    if topic is None:
        page = _full_page(command, config_dir)
        fits = len(page) <= _SHORT_PAGE_LINES
        return "\n".join(page if fits else _short_page(command))
    return "\n".join(_topic_page(command, topic.partition("=")[0], config_dir))


def _full_page(command: str, config_dir: Path | None) -> list[str]:
    """Usage, presets, and every setting with type and default."""
    root = settings_tree(command)
    lines = [*_head(command), "", _format_options(command)]
    groups = _groups(root)
    if groups:
        lines += ["", "PRESETS"]
    for group in groups:
        lines += _format_presets(group, config_dir)
    lines += ["", "SETTINGS"]
    for node in iter_nodes(root):
        if any(isinstance(child, Leaf) for child in node.children.values()):
            lines += ["", *_format_node(node, command)]
    return "\n".join(lines).splitlines()


def _short_page(command: str) -> list[str]:
    """The settings that are used most, one line per setting."""
    root = settings_tree(command)
    head = _head(command)
    topics = [name for name in _topics(root) if name != _ALL]
    helps = MOST_USED.get(command) or {
        child.path: "" for child in root.children.values() if isinstance(child, Leaf)
    }
    foot = [
        "",
        *textwrap.wrap(
            f"Topics: {', '.join(topics)}",
            _SHORT_WIDTH,
            subsequent_indent=" " * 8,
            break_on_hyphens=False,
        ),
        f"bertft {command} --help {topics[0]}   a topic, a setting or a preset",
    ]
    count = sum(1 for _ in iter_leaves(root))
    foot.append(f"bertft {command} --help all   all {count} settings and the presets")
    space = _SHORT_PAGE_LINES - len(head) - len(foot) - 2
    lines = [_summary_line(root, path, help) for path, help in [*helps.items()][:space]]
    return [*head, "", "Settings with their defaults", *lines, *foot]


def _head(command: str) -> list[str]:
    """What the command does, its usage and examples."""
    title = f"bertft {command}: {settings_tree(command).help}"
    return [title, "", f"  {format_usage(command)}", *(f"  {line}" for line in _EXAMPLES[command])]


def _summary_line(root: Node, path: str, help: str) -> str:
    """``path=default`` and the first sentence of the setting's help, unless ``help`` is given."""
    entry, _ = find_setting(root, path)
    if isinstance(entry, Leaf):
        default = "" if entry.required else _format_default(entry)
        help = help or re.split(r"(?<!\.)\.(?: |$)", entry.help)[0]
    else:
        default = default_presets().get(path) or "null"
    head = f"  {f'{path}={default}':<28} "
    return head + textwrap.shorten(help, _SHORT_WIDTH - len(head), placeholder=" ...")


def _topics(root: Node) -> dict[str, Node | str | None]:
    """Topic → its group of settings, the group of presets, or None."""
    topics: dict[str, Node | str | None] = {
        node.path.rpartition(".")[2]: node for node in iter_nodes(root) if node.path
    }
    topics |= {group: group for group in _groups(root) if group not in topics}
    return {**topics, _GENERAL: root, _OPTIONS_TOPIC: None, _ALL: None}


def _topic_page(command: str, topic: str, config_dir: Path | None) -> list[str]:
    root = settings_tree(command)
    topics = _topics(root)
    if topic == _ALL:
        return _full_page(command, config_dir)
    if topic == _OPTIONS_TOPIC:
        return [f"  {format_usage(command)}", "", _format_options(command)]
    entry: Leaf | Node | str | None = topics.get(topic)
    if entry is None:
        entry = find_setting(root, current_path(root, topic))[0]
    if isinstance(entry, str):
        return _format_presets(entry, config_dir)
    if isinstance(entry, Node):
        return _node_page(entry, command, config_dir)
    leaves = [entry] if isinstance(entry, Leaf) else _leaves_named(root, topic)
    if leaves:
        return [line for leaf in leaves for line in _format_setting(leaf, indent=0)]
    for group in _groups(root):
        file = find_presets(group, config_dir).get(topic)
        if file is not None:
            text = read_preset(file).rstrip()
            return [f"{group}={topic}", "", *textwrap.indent(text, "  ").splitlines()]
    name = topic.rpartition(".")[2]
    hint = foreign_hint(name)
    if hint is not None and command in TRAINING_COMMANDS:
        return _foreign_page(root, name, hint)
    known_names = [*topics, *(leaf.path for leaf in iter_leaves(root)), *_last_names(root)]
    raise usage_error(
        [
            Problem(
                f"--help {topic}",
                "there is no such topic, setting or preset",
                suggest(topic, known_names if _is_similar(topic, known_names) else topics),
            )
        ]
    )


def _is_similar(topic: str, names: Iterable[str]) -> bool:
    return suggest(topic, names).startswith("Did you mean")


def _foreign_page(root: Node, name: str, hint: str) -> list[str]:
    """The page of a name of transformers or peft: our setting, if there is one."""
    start = hint[:1] if hint[:2].isupper() else hint[:1].lower()  # CUDA stays
    lines = _wrap("", f"{name}: {start}{hint[1:]}")
    entry, _ = find_setting(root, FOREIGN_SETTINGS.get(name, "-").split(" ")[0].partition("=")[0])
    return [*lines, *_format_setting(entry, indent=0)] if isinstance(entry, Leaf) else lines


def _last_names(root: Node) -> list[str]:
    return [leaf.path.rpartition(".")[2] for leaf in iter_leaves(root)]


def _leaves_named(root: Node, name: str) -> list[Leaf]:
    """The settings whose present or former last name is ``name``."""
    return [
        leaf for leaf in iter_leaves(root) if name in (leaf.path.rpartition(".")[2], leaf.former)
    ]


def _node_page(node: Node, command: str, config_dir: Path | None) -> list[str]:
    """The presets and settings of a group; of the groups in it only the titles."""
    lines = _format_node(node, command)
    if node.path in _groups(settings_tree(command)):
        lines = [*_format_presets(node.path, config_dir), "", *lines]
    inner_nodes = [child for child in node.children.values() if isinstance(child, Node)]
    if inner_nodes:
        lines += ["", "  Topics"]
    for inner in inner_nodes:
        lines += _wrap(f"    --help {inner.path.rpartition('.')[2]:<12}", inner.help)
    return lines


def _groups(root: Node) -> list[str]:
    return [group for group in preset_groups() if group in root.children]


def _format_options(command: str) -> str:
    return f"{_SWEEP_OPTIONS}{_OPTIONS}" if command == "train" else _OPTIONS


def _format_presets(group: str, config_dir: Path | None) -> list[str]:
    lines = [f"  {group}="]
    for name, file in find_presets(group, config_dir).items():
        lines += _wrap(f"    {name:<20}", preset_summary(file))
    return lines


def _format_node(node: Node, command: str) -> list[str]:
    """The title of a group and its settings, without those of the groups in it."""
    title = node.path or command
    note = " (null unless a preset or one of these settings selects it)" if node.optional else ""
    lines = _wrap("  ", f"{title}: {node.help.rstrip('.')}{note}")
    for child in node.children.values():
        if isinstance(child, Leaf):
            lines += _format_setting(child)
    return lines


def _format_setting(leaf: Leaf, indent: int = 4) -> Iterator[str]:
    margin = " " * indent
    yield from _wrap(margin, f"{leaf.path}  {_format_type(leaf)}  = {_format_default(leaf)}")
    limits = format_bounds(leaf)
    yield from _wrap(f"{margin}    ", f"{leaf.help} ({limits})" if limits else leaf.help)


def _format_type(leaf: Leaf) -> str:
    if leaf.type is Any:
        return "value"
    kind = " | ".join(leaf.choices) if leaf.choices else leaf.type.__name__
    return f"{kind} | null" if leaf.optional else kind


def _format_default(leaf: Leaf) -> str:
    if leaf.required:
        return "(required)" if "." not in leaf.path else "(from the preset)"
    if isinstance(leaf.default, bool):
        return str(leaf.default).lower()
    if isinstance(leaf.default, list):
        return f"[{','.join(str(item) for item in leaf.default)}]"
    return "null" if leaf.default is None else str(leaf.default)


def _wrap(head: str, text: str) -> list[str]:
    lines = textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * max(len(head), 8),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or [head.rstrip()]
