"""Where one shot of a film ends and the next begins: hard cuts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import TypeVar

import cv2
import numpy as np

from moda.structures import Floats, Picture

SIGNATURE_PX = 24
WINDOW = 4
"""Pictures on either side that a change is compared with; a shot is longer."""
SMALLEST_CHANGE = 0.06
"""Between pictures of even brightness and contrast; unlike pictures differ by about 1."""
STANDS_OUT = 4.0
"""A cut changes the picture so many times more than any step shortly before and after it."""
COMES_BACK = 0.6
"""After a flash the picture is as before: it differs by less than this share of the change."""
FAINT = 0.03
"""Contrast below which there is nothing to see, as a share of full scale."""

Item = TypeVar("Item")


def mark_cuts(
    items: Iterable[Item], picture_of: Callable[[Item], Picture]
) -> Iterator[tuple[Item, bool]]:
    """Pass on pictures, each with whether a new shot begins with it.

    Pans, fades and flashes are no cuts. Five pictures are held back.
    """
    held: deque[tuple[Item, Floats]] = deque()
    before: deque[Floats] = deque(maxlen=WINDOW + 1)
    ahead = chain(((item, signature(picture_of(item))) for item in items), [None] * WINDOW)
    for entry in ahead:
        if entry is not None:
            held.append(entry)
        if held and (entry is None or len(held) > WINDOW):
            item, seen = held.popleft()
            yield item, is_cut([*before], [seen, *(after for _, after in held)])
            before.append(seen)


def signature(picture: Picture) -> Floats:
    """A picture (H, W, 3) as few numbers (24, 24, 3) that hardly know how bright it is."""
    small = cv2.resize(picture, (SIGNATURE_PX, SIGNATURE_PX), interpolation=cv2.INTER_AREA)
    values = small.astype(np.float32) / 255.0
    values -= values.mean()
    result: Floats = values / max(float(values.std()), FAINT)
    return result


def is_cut(before: Sequence[Floats], after: Sequence[Floats]) -> bool:
    """Whether a shot begins between signatures before and after."""
    if not before:
        return False
    change = _change(before[-1], after[0])
    steps = [_change(*pair) for pair in (*pairwise(before), *pairwise(after))]
    if change < max(SMALLEST_CHANGE, STANDS_OUT * max(steps, default=0.0)):
        return False
    returns = [_change(before[-1], later) for later in after[1:]]
    returns += [_change(earlier, after[0]) for earlier in before[:-1]]
    return min(returns, default=change) > COMES_BACK * change


def _change(one: Floats, other: Floats) -> float:
    return float(np.abs(one - other).mean())
