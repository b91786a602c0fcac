"""What a call of a loss in nopython code does: check shapes, run the loss's driver, return."""

from typing import Any

import numpy as np
from numba import types

from fastloss import _engine
from fastloss._drivers.common import CACHED, most_tiled
from fastloss._drivers.rowwise import RowwiseArguments
from fastloss._drivers.softmax import SoftmaxArguments
from fastloss._llvm import flattened, overlaps
from fastloss._nopython.building import Function, in_tuple, is_absent, written, yes
from fastloss._nopython.functions import softmax_arguments


class Launch:
    """The text of a call of a loss with arguments of certain types, which have been checked.

    Parameters
    ----------
    loss : Loss
        The loss.
    kinds : dict of str to numba.types.Type
        The types of the arguments that are not options, by name.
    values : numba.types.BaseTuple
        The type of the tuple of the options, as kernels take them.
    """

    def __init__(self, loss: Any, kinds: dict[str, Any], values: Any) -> None:
        self.loss, self.kinds, self.values = loss, kinds, values
        self.at = {  # what an argument is called in the text: None where it is absent
            name: "None" if is_absent(kind) else f"arrays[{i}]"
            for i, (name, kind) in enumerate(kinds.items())
        }
        self.pred = self.at[loss._pred_name]
        self.target = self.at.get(loss._target_name, "None")
        self.weight = self.at["sample_weight"]
        seconds = loss._properties.get("second") or ()
        self.second = next((name for name in seconds if self.at[name] != "None"), None)
        self.inputs = [loss._pred_name, *([self.second] if self.second else loss._other_names)]
        ndim = kinds[loss._pred_name].ndim
        self.labelled = self.target != "None" and kinds[loss._target_name].ndim < ndim
        self.lines: list[str] = []
        self.bindings: dict[str, Any] = {
            "T": kinds[loss._pred_name].dtype,
            "flattened": flattened,
            "np": np,
            "overlaps": overlaps,
            "yes": yes,
        }

    def function(self, method: str) -> Function:
        """Return the function of (arrays, options) that checks, computes and returns."""
        self._check_shapes()
        grads = ["None"] * len(self.inputs) if method == "__call__" else self._gradients()
        grad = grads[0] if len(grads) == 1 else in_tuple(grads)
        result = {"__call__": "value", "grad": grad}.get(method, f"value, {grad}")
        self._add("value = 0.0", f"if {self.pred}.size == 0:", f"    return {result}")
        if self.loss.family == "elementwise":
            self._run_elementwise(grads)
        else:
            self._add(f"classes = {self.pred}.shape[-1]", f"rows = {self.pred}.size // classes")
            run = self._run_softmax if self.loss.family == "softmax" else self._run_rowwise
            run(grads)
            if self.labelled:
                self._demand("status < 0", self.loss._target_name, "holding a label outside [0, C)",
                             "labels in [0, C), or ignore_index", "IndexError")  # fmt: skip
        self._add(f"return {result}")
        return written("call", "arrays, values", self.lines, self.bindings)

    def _add(self, *lines: str) -> None:
        self.lines += [f"    {line}" for line in lines]

    def _demand(
        self, condition: str, argument: str, got: str, expected: str, error: str = "ValueError"
    ) -> None:
        """Add a check."""
        message = f"{self.loss.name}: {argument} is {got}; expected {expected}"
        self._add(f"if not ({condition}):", f"    raise {error}({message!r})")

    def _check_shapes(self) -> None:
        pred, target = self.loss._pred_name, self.loss._target_name
        rows = f"{pred} without its last axis"
        shapes = dict.fromkeys(self.inputs[1:], ("", pred))
        if self.target != "None":
            shapes[target] = ("[:-1]", rows) if self.labelled else ("", pred)
        if self.weight != "None":
            shapes["sample_weight"] = ("", pred)
            if self.loss.family != "elementwise":
                shapes["sample_weight"] = ("[:-1]", rows)
            elif self.kinds["sample_weight"].ndim < self.kinds[pred].ndim:
                shapes["sample_weight"] = ("[:1]", f"the first axis of {pred}")
        if self._at("class_weight") != "None":
            shapes["class_weight"] = ("[-1:]", f"the last axis of {pred}")
        for argument, (part, like) in shapes.items():
            self._demand(
                f"{self.at[argument]}.shape == {self.pred}.shape{part}",
                argument, f"of another shape than {like}", f"the shape of {like}",
            )  # fmt: skip

    def _gradients(self) -> list[str]:
        """Check the buffers for the gradients, or make them; return what they are called."""
        out, pred, count = self.at["grad_out"], self.loss._pred_name, len(self.inputs)
        if out == "None":
            grads = [f"grad_{k}" for k in range(count)]
            self._add(*(f"{grad} = np.empty({self.pred}.shape, T)" for grad in grads))
            return grads
        grads = [out] if count == 1 else [f"{out}[{k}]" for k in range(count)]
        read = {
            array: name for name, array in self.at.items()
            if isinstance(self.kinds[name], types.Array) and array != out
        }  # fmt: skip
        for grad in grads:
            self._demand(f"{grad}.shape == {self.pred}.shape", "grad_out",
                         f"of another shape than {pred}", f"the shape of {pred}")  # fmt: skip
            for array, name in read.items():
                self._demand(f"not overlaps({grad}, {array})", "grad_out", f"overlapping {name}",
                             f"memory of its own, apart from {name}")  # fmt: skip
            read[grad] = "another of its arrays"
        return grads

    def _at(self, name: str) -> str:
        """Return what an argument is called that not every loss has."""
        return self.at.get(name, "None")

    def _divisor(self) -> str:
        """Return what the sum is divided by; NaN asks the driver for the mean's total weight."""
        reduction = getattr(self.kinds["reduction"], "literal_value", "mean")
        return {"mean": "np.nan", "sum": "1.0"}.get(reduction, f"np.float64({self.pred}.shape[0])")

    def _ignored(self) -> str:
        given = self._at("ignore_index")
        return f"np.int64({-100 if given == 'None' else given})"

    # Numbers are given types in these lines, because literals would compile a new driver.

    def _run_elementwise(self, grads: list[str]) -> None:
        loss, weight, options, spread = self.loss, "None", "values", "None"
        if self.weight != "None":
            size = f"{self.weight}.size"
            weight = f"(flattened({self.weight}), {self.pred}.size // {size}, {size})"
        if self.second:
            logarithm = "yes()" if self.second == loss._properties["second"][1] else "None"
            options = f"({logarithm}, *values)"
            spread = f"({_flat(self.at[self.second])}, np.int64(1), {self.pred}.size)"
        plain = weight == spread == "None"
        self.bindings["driver"] = _engine.elementwise_kernel(loss._scalar, plain, False)
        arguments = [
            _flat(self.pred), _flat(self.target), _flat(grads[0]), "None", "None",
            weight, "None", spread, options, self._divisor(), "1.0", "None",
            _flat(grads[1]) if self.second else "None", "None",
        ]  # fmt: skip
        self._add(f"value, status = driver({', '.join(arguments)})")

    def _run_rowwise(self, grads: list[str]) -> None:
        loss, dense = self.loss, self.target != "None" and not self.labelled
        inputs = [self.at[name] for name in self.inputs] + [self.target] * dense
        mass = _flat(self.target) if dense and loss._takes_labels else None
        converted = dense and self.kinds[loss._target_name].dtype != self.bindings["T"]
        staged = converted or (dense and self._at("class_weight") != "None")
        arguments = RowwiseArguments(
            inputs=in_tuple(map(_flat, inputs)),
            labels=_flat(self.target) if self.labelled else None,
            mass=mass,
            grads=in_tuple(map(_flat, grads)),
            hesses=in_tuple(["None"] * loss._properties["hessian"]),
            options="values",
            **self._common(),
        )
        function = loss._row_function(True) if dense else loss._scalar
        self._run(arguments, *(
            _engine.rowwise_kernel(
                function, _engine.kind_of_rows(function, self.labelled, few),
                "rows" if staged else None, False,
            ) for few in (True, False)
        ))  # fmt: skip

    def _run_softmax(self, grads: list[str]) -> None:
        loss, taken = self.loss, softmax_arguments(self.loss, self.values)
        if "None" not in (taken["z_loss"], taken["clip"]):
            self._demand(f"{taken['z_loss']} == 0", "z_loss", "above 0", "0 where eps is above 0")
        target, class_weight = _flat(self.target), _flat(self._at("class_weight"))
        if "None" not in (taken["z_loss"], class_weight) and taken["smoothing"] == "None":
            taken["smoothing"] = "(T(1.0), T(0.0))"  # as in calls from Python
        soft = not self.labelled or taken["smoothing"] != "None"
        arguments = SoftmaxArguments(
            logits=_flat(self.pred),
            labels=target if self.labelled else None,
            dense=None if self.labelled else target,
            grad=_flat(grads[0]),
            **taken,
            **self._common(),
        )
        self._run(arguments, *(
            _engine.softmax_kernel(loss._scalar, soft, tiled, False) for tiled in (True, False)
        ))  # fmt: skip

    def _common(self) -> dict[str, str]:
        """Return what the drivers of the softmax family and of the row losses both take."""
        return {
            "sample_weight": _flat(self.weight),
            "class_weight": _flat(self._at("class_weight")),
            "ignore_index": self._ignored(),
            "rows": "rows",
            "classes": "classes",
            "inner": "np.int64(1)",
            "divisor": self._divisor(),
            "scale": "1.0",
        }

    def _run(self, arguments: tuple[str | None, ...], few: Function, many: Function) -> None:
        """Add the call of a driver: one for few classes and one for many, or one for both."""
        self.bindings |= {"driver_of_few": few, "driver_of_many": many}
        call = f"({', '.join(map(str, arguments))})"
        if few is many:
            self._add(f"value, status = driver_of_many{call}")
            return
        itemsize = np.dtype(self.bindings["T"].name).itemsize
        cached = CACHED // itemsize
        most, most_beyond = most_tiled(itemsize, cached), most_tiled(itemsize, cached + 1)
        self._add(
            f"if classes <= ({most} if {self.pred}.size <= {cached} else {most_beyond}):",
            f"    value, status = driver_of_few{call}",
            "else:",
            f"    value, status = driver_of_many{call}",
        )


def _flat(array: str) -> str:
    """Return the expression of an array as a vector, or None."""
    return "None" if array == "None" else f"flattened({array})"
