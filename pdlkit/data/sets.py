"""The data sets in the box: real, small, and never downloaded."""

import numpy as np
from sklearn import datasets


def digits():
    """Return 1,797 handwritten digits: images [1797, 8, 8, 1] in 0..1, labels [1797].

    Source: Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten
    Digits", UCI, doi:10.24432/C50P49, as bundled with scikit-learn.
    """
    pixels, labels = datasets.load_digits(return_X_y=True)
    return (pixels.reshape(-1, 8, 8, 1) / 16).astype(np.float32), labels.astype(np.int32)


def diabetes():
    """Return 442 patients: measures [442, 10] and progression [442, 1], standardised.

    Source: Efron et al. 2004, "Least Angle Regression",
    doi:10.1214/009053604000000067, as bundled with scikit-learn.
    """
    measures, progression = datasets.load_diabetes(return_X_y=True)
    return _standardise(measures), _standardise(np.reshape(progression, (-1, 1)))


def _standardise(x):
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32)
