"""The bundled real data set: 1,797 handwritten digits (README.md: source, licence)."""

from importlib import resources

import numpy as np
from numpy.typing import NDArray

__all__ = ["digits"]


def digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Load the 1,797 handwritten digits of the UCI optical recognition test set.

    Returns
    -------
    images : ndarray of float32, shape (1797, 64)
        One image of 8 by 8 pixels per row, in row-major order, scaled to 0 (paper) .. 1 (ink).
    labels : ndarray of int64, shape (1797,)
        The digit each image shows, 0 to 9.

    References
    ----------
    .. [1] E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
       Learning Repository, 1998. https://doi.org/10.24432/C50P49 (CC BY 4.0)

    Examples
    --------
    >>> from fastloss.data import digits
    >>> images, labels = digits()
    >>> images.shape, labels[:5].tolist()
    ((1797, 64), [0, 1, 2, 3, 4])
    """
    with (
        resources.files(__name__).joinpath("digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as archive,
    ):
        pixels, labels = archive["pixels"], archive["labels"]
    # Pixels are 0..16: dividing by 16 is exact in float32.
    return pixels.astype(np.float32) / np.float32(16), labels.astype(np.int64)
