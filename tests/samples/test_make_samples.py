"""The shipped files of the bundled samples are those that their generator writes."""

from __future__ import annotations

from pathlib import Path

import pytest

import bertft.samples
from tools.make_samples import SAMPLES, SPLITS, jsonl

FOLDER = Path(bertft.samples.__file__).parent


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("split", SPLITS)
def test_the_generator_reproduces_the_shipped_files(name, split):
    assert jsonl(name, split) == (FOLDER / name / f"{split}.jsonl").read_bytes()


def test_every_sample_and_split_has_a_generator():
    assert bertft.samples.sample_names() == tuple(SAMPLES)
    assert bertft.samples.SPLITS == SPLITS
    assert len(list(FOLDER.rglob("*.jsonl"))) == len(SAMPLES) * len(SPLITS)
