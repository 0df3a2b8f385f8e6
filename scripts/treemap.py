"""Divide a rectangle into rectangles of given areas that are as square as can be.

After "Squarified Treemaps" (Bruls, Huizing, van Wijk, 2000): rows are laid along the shorter side,
and a row is full when one more item would make its worst rectangle more oblong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle: its upper left corner and its size."""

    x: float
    y: float
    width: float
    height: float

    def inside(self, margin: float, top: float = 0) -> Box:
        """The box without a margin all around and a strip at its top; never of negative size."""
        return Box(self.x + margin, self.y + margin + top,
                   max(0.0, self.width - 2 * margin), max(0.0, self.height - 2 * margin - top))


def squarify(sizes: Sequence[float], box: Box) -> list[Box]:
    """Divide a box.

    :param sizes: what the areas are in proportion to, the largest first; none negative.
    :returns: a box for each size, in their order; all of them fill ``box``.
    """
    boxes: list[Box] = []
    total = sum(sizes)
    if total <= 0 or box.width <= 0 or box.height <= 0:
        return [Box(box.x, box.y, 0, 0) for _ in sizes]
    areas = [size * box.width * box.height / total for size in sizes]
    rest, start = box, 0
    while start < len(areas):
        side = min(rest.width, rest.height)
        end = start + 1
        while end < len(areas) and _worst(areas[start: end + 1], side) <= \
                _worst(areas[start:end], side):
            end += 1
        row = areas[start:end]
        last = end == len(areas)
        placed, rest = _lay(row, rest, last)
        boxes += placed
        start = end
    return boxes


def _worst(row: Sequence[float], side: float) -> float:
    """The ratio of the sides of the most oblong rectangle of a row along a side."""
    total = sum(row)
    if total <= 0 or min(row) <= 0 or side <= 0:
        return float("inf")
    return max(side * side * max(row) / (total * total), total * total / (side * side * min(row)))


def _lay(row: Sequence[float], box: Box, last: bool) -> tuple[list[Box], Box]:
    """Lay a row along the shorter side; returns its boxes and what of ``box`` is left."""
    total = sum(row)
    upright = box.width >= box.height
    side = box.height if upright else box.width
    depth = total / side if side else 0.0
    if last:
        depth = box.width if upright else box.height
    boxes, at = [], 0.0
    for area in row:
        length = side * area / total if total else 0.0
        boxes.append(Box(box.x, box.y + at, depth, length) if upright
                     else Box(box.x + at, box.y, length, depth))
        at += length
    rest = Box(box.x + depth, box.y, max(0.0, box.width - depth), box.height) if upright \
        else Box(box.x, box.y + depth, box.width, max(0.0, box.height - depth))
    return boxes, rest
