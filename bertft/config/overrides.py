"""Arguments of a command line → overrides in Hydra's grammar.

In Hydra's grammar ``,``, ``=``, brackets and blanks are special characters, and non-ASCII
characters are not supported. Here the value of a text setting is taken literally and quoted:

    data.train=/数据/a,b.csv          ->  data.train='/数据/a,b.csv'
    data.text=[质问,回答]               ->  data.text=['质问','回答']
    -m data.train=a.csv,b.csv         ->  data.train='a.csv','b.csv'     a sweep
    -m data.train=a,b.csv  (a file)   ->  data.train='a,b.csv'           no sweep

With ``-m`` a comma in a text separates the values of a sweep, unless the text is an existing file
or folder or a value would be empty. A comma in quotes (``data.train="'a,b'"``) never does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

from bertft.config.data_files import inherited_format
from bertft.config.foreign_names import foreign_model_preset
from bertft.config.former_names import (
    current_path,
    current_text,
    rename_settings,
    report_former,
)
from bertft.config.presets import find_presets, preset_groups
from bertft.config.schema import Leaf, Node, default_value, find_setting, iter_nodes, settings_tree
from bertft.config.task_facts import TASKS_BY_SETTING
from bertft.config.values import check_answer_settings, value_problems
from bertft.errors import DataError, UsageError
from bertft.utils.safe_files import read_plain_yaml, read_regular_text

__all__ = [
    "OPEN_GROUP",
    "check_overrides",
    "format_value",
    "open_node_override",
    "parse_data_settings",
    "rewrite_overrides",
    "split_override",
    "unquote_value",
]

OPEN_GROUP = "open"  # prefix of the hidden groups that fill null groups of settings

_OUTPUT_DIR_SETTINGS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
_MACHINE_SETTINGS = ("cache",)  # never taken from a recorded configuration
_ROW_SOURCE_SETTINGS = ("source", "train", "validation", "test", "hub")
_FILE_SETTINGS = ("train", "validation", "test")
_SAMPLE_SETTINGS = ("name", "source", "sample")
# Settings of predict that have another name in the group ``data``.
_PREDICT_ALIASES = {
    "data.text": "columns",
    **{
        f"data.{name}": name
        for name in ("keep", "sentence", "format", "separator", "quoting", "encoding", "header")
    },
    "data.on_bad_row": "on_bad_row",
}
_QUOTED = re.compile(r"""(['"]).*\1""", re.DOTALL)
_LIST_OR_NAME = re.compile(r"(?:^|,)(\s*\[[^\[\]]*\]\s*(?=,|$)|[^,]*)")
_SWEEP_FUNCTION = re.compile(
    r"(choice|range|interval|glob|sort|shuffle|tag|str|int|float|bool)\(.*\)"
)
_NEEDS_NO_QUOTES = re.compile(r"[\w./\\+\-$%*@?|,:{}\[\]() '\"]*", re.ASCII)


def split_override(override: str) -> tuple[str, str, str | None]:
    """``+key=value`` → (``+``, ``key``, ``value``); the value is None where there is no ``=``."""
    key, equals, value = override.partition("=")
    stripped_key = key.lstrip("+~")
    return key[: len(key) - len(stripped_key)], stripped_key, value if equals else None


def format_value(value: Any) -> str:
    """``value`` in the syntax of an override that Hydra parses back to ``value``."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return QuotedString(value, Quote.single).with_quotes()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(format_value(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{format_value(item)}' for key, item in value.items())}}}"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def unquote_value(value: str) -> str:
    """``value`` without the quotes that ``rewrite_overrides`` added."""
    return value[1:-1].replace("\\'", "'") if _QUOTED.fullmatch(value) else value


def open_node_override(path: str) -> str:
    """The override that fills an optional group at ``path`` with its defaults if it is null.

    OmegaConf cannot set a key in a null group. Selecting a hidden preset can fill the group.
    """
    return f"+{OPEN_GROUP}/{path.replace('.', '/')}=yes"


def rewrite_overrides(
    command: str, overrides: Sequence[str], sweep: bool = False, config_dir: Path | None = None
) -> list[str]:
    """The overrides in Hydra's grammar.

    - Null groups in which a setting is set get their defaults: method components, and ``data`` of
      eval, which gets the settings of the run.
    - If eval selects another preset of ``data``, the settings of the run on which predictions
      depend are kept.
    - ``resume=<run>`` sets the output folder to that run.
    - ``model=<Hub id or folder>`` selects the preset of this model, or sets ``model.path``.
    - ``experiment=null`` is left out.

    Args:
        command: a key of ``COMMAND_CONFIGS``.
        overrides: the arguments of the form ``key=value``.
        sweep: whether ``-m`` is given.
        config_dir: the folder of ``--config-dir``.
    """
    root = settings_tree(command)
    if "experiment" in root.children:
        overrides = [word for word in overrides if not _is_no_experiment(word)]
    words = [_model_override(root, word, sweep, config_dir) for word in overrides]
    if command == "predict":
        words = [_rewrite_predict_override(word) for word in words]
    words = [_rewrite_override(root, _under_present_names(root, word), sweep) for word in words]
    words = _open_null_nodes(root, words)
    if command == "eval":
        words = _inherit_run_data(words, config_dir)
    value_by_key = {key: value for _, key, value in map(split_override, words)}
    run = value_by_key.get("resume") if command == "train" else None
    if run not in (None, "null", "'auto'") and "hydra.run.dir" not in value_by_key:
        words.append(f"hydra.run.dir={run}")
    return words


def _is_no_experiment(word: str) -> bool:
    """Whether a word is ``experiment=null``, the default, for which Hydra has no override.

    UsageError if null is one of several values.
    """
    _, key, value = split_override(word)
    if key != "experiment" or value is None:
        return False
    values = [item.strip().casefold() for item in value.split(",")]
    if len(values) > 1 and "null" in values:
        raise UsageError(
            "null cannot be one of several values",
            where="experiment",
            hint="Run the sweep without experiment= and with it",
        )
    return values == ["null"]


def _rewrite_predict_override(override: str) -> str:
    """Accept ``data.keep`` for ``keep``, and take each ``text`` literally.

    A text on the command line may be a number or begin with a brace. Only ``[a,b]`` is a list.
    """
    sign, key, value = split_override(override)
    key = _PREDICT_ALIASES.get(key, key)
    if value is None or key != "text" or value.casefold() == "null" or _QUOTED.fullmatch(value):
        return f"{sign}{key}" if value is None else f"{sign}{key}={value}"
    if value.startswith("[") and value.endswith("]"):
        items = [unquote_value(item) for item in _split_list(value[1:-1])]
        return f"{sign}{key}={format_value(items)}"
    is_column_number = re.fullmatch("0|[1-9][0-9]*", value) is not None
    return override if is_column_number else f"{sign}{key}={format_value(value)}"


def _under_present_names(root: Node, override: str) -> str:
    """``override`` with the present names of its setting and choices."""
    sign, key, value = split_override(override)
    path = current_path(root, key)
    if path != key:
        report_former(key, path)
    leaf, _ = find_setting(root, path)
    if isinstance(leaf, Leaf) and leaf.path == path and value is not None:
        current = current_text(leaf, value)
        if current != value:
            report_former(f"{path}={value}", f"{path}={current}")
        value = current
    return f"{sign}{path}" if value is None else f"{sign}{path}={value}"


def _model_override(root: Node, override: str, sweep: bool, config_dir: Path | None) -> str:
    """``model=<Hub id or folder>`` → ``model=<preset>`` or ``model.path=<Hub id or folder>``.

    A name without a slash is a Hub id only if it is the name of a preset's model, because it may
    also be a misspelled preset.
    """
    sign, key, value = split_override(override)
    if key != "model" or not value or sign == "~" or "model" not in root.children:
        return override
    names = [item.strip() for item in value.split(",")] if sweep else [value]
    presets = find_presets("model", config_dir)
    known = [name if name in presets else foreign_model_preset(name) or name for name in names]
    if all(("/" in name or Path(name).is_dir()) and name not in presets for name in known):
        return f"model.path={value}"
    return f"model={','.join(known)}"


def _rewrite_override(root: Node, override: str, sweep: bool) -> str:
    sign, key, value = split_override(override)
    if value is None or sign == "~":
        return override
    if key in _OUTPUT_DIR_SETTINGS:
        return f"{sign}{key}={_quote_text(value, False, lists=False)}"
    if key in preset_groups():
        return f"{key}={value}"  # + has no meaning for a known group
    entry, _ = find_setting(root, key)
    if not isinstance(entry, Leaf):
        return override
    if entry.path != key:
        return f"++{key}={value}"  # a key inside a setting of type Any
    if entry.type is Any and entry.file is not None:
        return f"{key}={_quote_files(value, sweep)}"
    if entry.type is Any:
        return f"{key}={_quote_text(value, sweep, lists=True)}"
    if (entry.type is str and not entry.choices) or not _NEEDS_NO_QUOTES.fullmatch(value):
        return f"{key}={_quote_text(value, sweep, lists=False)}"
    return f"{key}={value}"


def _quote_text(value: str, sweep: bool, *, lists: bool) -> str:
    """``value`` in quotes, unless it is null, quoted, or (``lists``) a number or container."""
    if value.casefold() == "null" or _QUOTED.fullmatch(value):
        return value
    if lists and value.startswith("{"):
        return value
    if lists and value.startswith("["):
        inner = value[1:].removesuffix("]")
        return f"[{','.join(_quote_text(item, False, lists=True) for item in _split_list(inner))}]"
    if lists and re.fullmatch(r"[+-]?\d+", value):
        return value
    if sweep:
        if _SWEEP_FUNCTION.fullmatch(value):
            return value
        values = [item.strip() for item in value.split(",")]
        if len(values) > 1 and all(values) and not Path(value).exists():
            return ",".join(_quote_text(item, False, lists=lists) for item in values)
    return format_value(value)


def _quote_files(value: str, sweep: bool) -> str:
    """A file name, pattern or folder, or a list of them in brackets, in quotes.

    With ``sweep``, commas outside of brackets separate the values of a sweep.
    """
    if value.casefold() == "null" or _QUOTED.fullmatch(value):
        return value
    if Path(value).exists():
        return format_value(value)
    if sweep and _SWEEP_FUNCTION.fullmatch(value):
        return value
    values = _LIST_OR_NAME.findall(value) if sweep else [value]
    if len(values) > 1 and all(values):
        return ",".join(_quote_files(item.strip(), False) for item in values)
    if value.startswith("[") and value.endswith("]"):
        names = [unquote_value(name) for name in _split_list(value[1:-1])]
        return format_value(names)
    return format_value(value)


def _split_list(inner: str) -> list[str]:
    """The items between the brackets of a list; commas in quotes do not separate."""
    items = re.findall(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^,]*)\s*(?:,|$)""", inner)
    return [item.strip() for item in items if item.strip()]


def _open_null_nodes(root: Node, words: Sequence[str]) -> list[str]:
    """``words`` with ``+open/method/prefix=yes`` if a key is in the group ``method.prefix``."""
    keys = [split_override(word)[1] for word in words]
    nullable_paths = [node.path for node in iter_nodes(root) if node.optional and "." in node.path]
    paths_to_open = [
        path for path in nullable_paths if any(f"{key}.".startswith(f"{path}.") for key in keys)
    ]
    return [*(open_node_override(path) for path in paths_to_open), *words]


def _inherit_run_data(words: Sequence[str], config_dir: Path | None) -> list[str]:
    """Add the recorded ``data`` settings of the run or folder.

    With a preset of ``data``, only the settings on which predictions depend are added, unless the
    preset or an override sets them.
    """
    value_by_key = {key: value for _, key, value in map(split_override, words)}
    preset_name = value_by_key.get("data")
    if preset_name is None and not any(key.startswith("data.") for key in value_by_key):
        return list(words)
    folder = value_by_key.get("run") or value_by_key.get("adapter") or ""
    if not folder or folder == "null":
        return list(words) if preset_name is not None else ["data=files", *words]
    settings = _read_recorded_data(Path(unquote_value(folder)).expanduser())
    explicit = {key.removeprefix("data."): value for key, value in value_by_key.items()}
    if preset_name is not None:
        preset = _read_data_preset(preset_name, config_dir)
        if preset is None:
            return list(words)
        explicit = {**preset, **explicit}
        task = unquote_value(str(explicit.get("task", default_value("data.task"))))
        if settings.get("task") != task:
            return list(words)  # the problem is reported when the folder is opened
        settings = {key: settings[key] for key in settings if task in TASKS_BY_SETTING.get(key, ())}
    elif settings.get("source") == "sample" and any(
        f"data.{name}" in value_by_key for name in _ROW_SOURCE_SETTINGS
    ):
        # Other rows replace the bundled data set.
        settings = {key: settings[key] for key in settings if key not in _SAMPLE_SETTINGS}
    files = [_parse_files(explicit[name]) for name in _FILE_SETTINGS if explicit.get(name)]
    train = settings.get("train")
    if any(inherited_format(settings.get("format"), train, names) is None for names in files):
        settings.pop("format", None)
    if explicit.get("validation"):  # no rows are held out
        settings.pop("group", None)
    if str(explicit.get("unanswerable")).lower() == "false":  # the threshold has no effect
        settings.pop("no_answer_threshold", None)
    inherited = [
        f"data.{key}={format_value(value)}"
        for key, value in settings.items()
        if key not in explicit
    ]
    return [*([] if preset_name is not None else ["data=files"]), *inherited, *words]


def _parse_files(value: Any) -> Any:
    """The name or the list of names in a value that ``_quote_files`` returned, or of a preset."""
    if not isinstance(value, str):
        return value
    if value.startswith("["):
        return [unquote_value(name) for name in _split_list(value[1:].removesuffix("]"))]
    return unquote_value(value)


def _read_data_preset(name: str, config_dir: Path | None) -> dict[str, Any] | None:
    """The settings of the preset ``name`` of ``data``; None if they cannot be read here."""
    file = find_presets("data", config_dir).get(name)
    try:
        content = None if file is None else read_plain_yaml(file)
    except DataError:  # a user's preset, for example with interpolations
        return None
    if not isinstance(content, dict) or "defaults" in content:
        return None
    return rename_settings(_data_node(), content)


def _read_recorded_data(folder: Path) -> dict[str, Any]:
    """The ``data`` settings of a run, or those of a merged or exported folder.

    Only literal values are returned, so that nothing becomes an interpolation in Hydra. A file that
    cannot be read is reported when the folder is opened.
    """
    try:
        if (folder / "config.yaml").is_file():
            data = read_plain_yaml(folder / "config.yaml")["data"]
        else:
            content = json.loads(read_regular_text(folder / "bertft.json"))
            data = check_answer_settings(content.get("answering"))
            matching_tasks = {task for name in data for task in TASKS_BY_SETTING.get(name, ())}
            if isinstance(content.get("task"), str):
                data["task"] = content["task"]
            elif len(matching_tasks) == 1:  # earlier versions did not record the task
                [data["task"]] = matching_tasks
        data_node = _data_node()
        data = rename_settings(data_node, data)
        return {
            key: data[key]
            for key, entry in data_node.children.items()
            if key in data
            and key not in _MACHINE_SETTINGS
            and _is_literal(data[key])
            and isinstance(entry, Leaf)
            and not any(value_problems(entry, data[key]))
        }
    except Exception:
        return {}


def _data_node() -> Node:
    node = settings_tree("train").children["data"]
    assert isinstance(node, Node)
    return node


def _is_literal(value: Any) -> bool:
    """Whether ``value`` is a literal or a list of literals, without interpolations."""
    if isinstance(value, list):
        return all(_is_literal(item) and not isinstance(item, list) for item in value)
    if isinstance(value, str):
        return "${" not in value and value != "???"
    return value is None or isinstance(value, (bool, int, float))


def parse_data_settings(settings: Sequence[str]) -> dict[str, Any]:
    """``["data.text=[a,b]"]`` → ``{"text": ["a", "b"]}``."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    overrides = OverridesParser.create().parse_overrides(rewrite_overrides("train", settings))
    return {override.key_or_group.removeprefix("data."): override.value() for override in overrides}


def check_overrides(overrides: Sequence[str], excluded: Mapping[str, str] | None = None) -> None:
    """UsageError for overrides of a Python function that are not settings.

    Options of the command line are not supported, and neither are the settings ``excluded``, a dict
    from names to hints.
    """
    if isinstance(overrides, str):
        raise UsageError(
            f"expected a list of settings, got the text {overrides!r}",
            where="overrides",
            hint=f"Write overrides=[{overrides!r}]",
        )
    for override in overrides:
        name = override.partition("=")[0]
        if name.startswith("-") and name != "--config-dir":
            raise UsageError(
                f"{override} is an option of the command line",
                where="overrides",
                hint="Write settings as 'name=value'",
            )
        if hint := (excluded or {}).get(name):
            raise UsageError(f"{name} is not supported here", where="overrides", hint=hint)
