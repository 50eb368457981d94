"""Names that the user gives to the outputs of a head."""

from __future__ import annotations

import pytest

from bertft.errors import UsageError
from bertft.pipeline.head_settings import HeadSettings


@pytest.mark.parametrize("labels", [["pos", "neg"], ["neg"]])
def test_a_command_does_not_rename_outputs_that_have_names(labels):
    with pytest.raises(UsageError, match="but the outputs of the model are named neg, pos"):
        HeadSettings(labels=labels).class_names(["neg", "pos"])
    # Of eval they are in the order of the numbers in files.
    result = HeadSettings(labels=labels, prefix="data.")
    assert result.class_names(["neg", "pos"]) == ["neg", "pos"]


@pytest.mark.parametrize(
    ("output_names", "labels"), [(["neg", "pos"], ["neg", "pos"]), (["1.0", "2.0"], [1, 2])]
)
def test_the_same_names_may_be_repeated(output_names, labels):
    assert HeadSettings(labels=labels).class_names(output_names) == output_names


def test_outputs_without_names_are_named():
    result = HeadSettings(labels=["pos", "neg"])
    assert result.class_names(["LABEL_0", "LABEL_1"]) == ["pos", "neg"]
    with pytest.raises(UsageError, match="has 3 names, but the model has 2 outputs"):
        HeadSettings(labels=["a", "b", "c"]).class_names(["LABEL_0", "LABEL_1"])


@pytest.mark.parametrize("labels", [["PER"], {5: "PER", 7: "O"}, ["O", "B-PER", "I-PER"]])
def test_types_of_entities_are_names_of_their_tags(labels):
    """data.labels of a run on spans, which eval reads again."""
    tags = ["O", "B-PER", "I-PER"]
    settings = HeadSettings("token_classification", labels, "data.")
    assert settings.class_names(tags) == tags
    for other in (["LOC"], ["B"]):
        with pytest.raises(UsageError, match="the model has no class"):
            HeadSettings("token_classification", other, "data.").class_names(tags)
    with pytest.raises(UsageError, match="the model has no class PER"):
        HeadSettings("classification", ["PER"], "data.").class_names(tags)
