"""Options that several losses share, with their domains."""

from fastloss._validate import Option


def clip_epsilon() -> Option:
    """Return `eps`: probabilities clipped to ``[eps, 1 - eps]``, the textbook form; 0 is exact."""
    return Option(0.0, "a number in [0, 0.5)", lambda x: 0 <= x < 0.5, neutral=True,
                  shapes_formula=True)  # fmt: skip


def positive(default: float) -> Option:
    """Return an option that is a positive number, such as a threshold or a scale."""
    return Option(default, "a number > 0", lambda x: x > 0)


def smoothing() -> Option:
    """Return `label_smoothing`: the share of the target spread evenly over the classes."""
    return Option(0.0, "a number in [0, 1]", lambda x: 0 <= x <= 1, neutral=True)


def positive_weight() -> Option:
    """Return `pos_weight`: the weight of the positive part, one number or one per class."""
    return Option(1.0, "a number >= 0, or one per class", lambda x: x >= 0, neutral=True,
                  per_class=True)  # fmt: skip
