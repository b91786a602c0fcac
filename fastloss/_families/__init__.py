"""The three families of losses, and the decorators by which a loss's file joins one.

A file in `losses` states the mathematics once and decorates it with `elementwise`, `softmax` or
`rowwise`, or with `at_label` or `margin_softmax`, whose losses are row losses too.
"""

from fastloss._families.at_label import at_label as at_label
from fastloss._families.at_label import margin_softmax as margin_softmax
from fastloss._families.elements import ElementwiseLoss as ElementwiseLoss
from fastloss._families.elements import elementwise as elementwise
from fastloss._families.rows import RowLoss as RowLoss
from fastloss._families.rows import rowwise as rowwise
from fastloss._families.softmaxes import SoftmaxLoss as SoftmaxLoss
from fastloss._families.softmaxes import softmax as softmax
