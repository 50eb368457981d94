"""More than two texts per row: the second and all further texts are one text with separators.

    data.text=[title,body,comment]    [CLS] title [SEP] body [SEP] comment [SEP]

Rows are read without a tokenizer, so they contain ``TEXT_JOINT`` in place of its separator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bertft.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TEXT_JOINT", "join_texts", "separate_texts"]

TEXT_JOINT = "\u241f"  # the symbol for a unit separator, which is readable in reports


def join_texts(texts: Sequence[str]) -> str:
    """``texts`` as one text. ``TEXT_JOINT`` in a text is replaced by a space."""
    return TEXT_JOINT.join(text.replace(TEXT_JOINT, " ") for text in texts)


def separate_texts(
    joined_texts: Sequence[str], tokenizer: PreTrainedTokenizerBase
) -> Sequence[str]:
    """``joined_texts`` with the separator token of ``tokenizer`` between the texts of each.

    Raises UsageError if the tokenizer has no such token.
    """
    if not any(TEXT_JOINT in text for text in joined_texts):
        return joined_texts
    if tokenizer.sep_token is None:
        raise UsageError(
            "more than two columns are not supported, because the tokenizer has no separator token",
            where="data.text",
            hint="Join the columns in the file",
        )
    return [text.replace(TEXT_JOINT, str(tokenizer.sep_token)) for text in joined_texts]
