"""``bertft predict``: unlabelled rows in, one JSON object a line out, in the rows' order."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from rich.console import Console

from bertft.assembly.saved import open_saved
from bertft.config.commands import PredictConfig
from bertft.data.features import featurize
from bertft.data.sources import load_inputs
from bertft.errors import EnvironmentFailed, UsageError
from bertft.training.evaluate import predict_logits

__all__ = ["run"]


def run(config: PredictConfig, _: Path) -> None:
    """Nothing but answers goes to stdout."""
    saved = open_saved(
        config.run, checkpoint=config.checkpoint, precision=config.precision, device=config.device,
        warn=Console(stderr=True).print,
    )  # fmt: skip
    adapted, data = saved.adapted, saved.data
    if config.text is not None:
        data = replace(data, text=config.text)
    if config.threshold is not None:
        if adapted.task.threshold is None:
            raise UsageError(
                f"{adapted.task.name} decides by no threshold", where="threshold",
                hint="Leave it out",
            )  # fmt: skip
        adapted.task.threshold = config.threshold
    rows = load_inputs(config.input, data)
    encode = adapted.task.encoder(adapted.tokenizer, saved.facts.max_length)
    table = featurize(rows, encode, [], None)
    logits = predict_logits(adapted.runner, table, adapted.precision)
    with _output(config.output) as file:
        for answer in adapted.task.answers(logits, rows.table.to_pylist()):
            file.write(json.dumps(answer, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def _output(name: str) -> Iterator[TextIO]:
    """stdout, or a file that is there whole or not at all."""
    if name == "-":
        yield sys.stdout
        return
    path = Path(name).expanduser()
    new = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with new.open("w", encoding="utf-8") as file:
            yield file
        new.replace(path)
    except OSError as error:
        raise EnvironmentFailed(
            f"cannot be written ({error.strerror or error})", where=name,
            hint="Give another output=<file>",
        ) from error  # fmt: skip
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
