"""Types of arrays, and of the text that goes with a video."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]
"""(H, W, 3), RGB."""
Part = tuple[slice, slice]
"""Rows and columns of a picture, from their first to before their last."""
Metadata = Mapping[str, str]
