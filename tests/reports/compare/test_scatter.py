from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from bertft.reports.compare.scatter import Point, front, scatter

POINTS = [
    Point("head", 0, 0.79), Point("lora r2", 18_432, 0.842, 0.004), Point("lora r8", 73_728, 0.848),
    Point("prefix", 73_728, 0.848), Point("svd", 73_824, 0.84), Point("全部", 22_700_000, 0.882),
]  # fmt: skip


def names(points):
    return [each.name for each in points]


def test_the_front_is_what_none_beats():
    assert names(front(POINTS, lower=False)) == ["head", "lora r2", "lora r8", "prefix", "全部"]
    assert names(front(POINTS, lower=True)) == ["head"]


def test_lower_may_be_better():
    losses = [Point("a", 10, 0.5), Point("b", 20, 0.3), Point("c", 30, 0.4)]
    assert names(front(losses, lower=True)) == ["a", "b"]


@pytest.mark.parametrize("points", [POINTS, POINTS[:1], [Point("a<b>&", 5, 1e-9)] * 2])
def test_everything_lies_within_the_picture(points):
    root = ElementTree.fromstring(scatter(points, "accuracy <&>", False))
    _, _, width, height = map(float, root.get("viewBox").split())
    circles = root.findall(".//circle")
    assert len(circles) == len(points)
    for each in circles:
        assert 0 < float(each.get("cx")) < width and 0 < float(each.get("cy")) < height
    labels = [each for each in root.findall("text") if each.get("class") == "name"]
    assert sorted(each.text for each in labels) == sorted(names(points))
    for each in labels:
        assert 0 < float(each.get("x")) < width and 0 < float(each.get("y")) < height


def test_more_parameters_lie_further_right_and_better_values_higher():
    root = ElementTree.fromstring(scatter(POINTS, "accuracy", False))
    places = {
        each.find("title").text.partition(":")[0]: (float(each.get("cx")), float(each.get("cy")))
        for each in root.findall(".//circle")
    }
    across = [places[name][0] for name in ("head", "lora r2", "lora r8", "svd", "全部")]
    assert across == sorted(across)
    assert places["全部"][1] < places["lora r8"][1] < places["head"][1]


def test_labels_of_equal_points_lie_apart():
    root = ElementTree.fromstring(scatter([Point("a", 10, 1.0), Point("b", 10, 1.0)], "f1", False))
    one, two = (
        (each.get("x"), each.get("y"))
        for each in root.findall("text")
        if each.get("class") == "name"
    )
    assert one != two
