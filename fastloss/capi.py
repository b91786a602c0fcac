"""The losses as C functions, for C, C++, Cython, cffi, ctypes and SciPy.

``fastloss.capi.<name>`` has a C function for each type, `float32` and `float64`: of an elementwise
loss its point function, of any other its row function. (The rows of `info_nce` meet each other; it
has none.) A function knows its `name`, its `signature` in C and its `address`.

>>> import fastloss as fl
>>> huber = fl.capi.huber.float64
>>> print(huber.signature)
double fastloss_huber_f64(double pred, double target, double delta, double *slope,
                          double *curvature)
>>> huber.ctypes(3.0, 1.0, 0.5, None, None)
0.875

- Parameters are what the loss is of, rows followed by their common `size`; then all options of the
  loss; then pointers to where the derivatives go. A flag is an ``int``, and so is a word, 0 for the
  first one. Where Python takes None, C takes NAN.
- A loss of labels and of dense targets has a function for each: ``fl.capi.sparsemax.float64`` and
  ``fl.capi.sparsemax.dense.float64``. `gaussian_nll` has one more for logarithms of variances.
- Derivatives are stored unless their pointer is NULL; the gradients of a row are all NULL or none
  is. They must not overlap the rows. Nothing is checked; but a label outside [0, size) reads
  nothing: loss and gradient are NAN then.
- The functions allocate nothing, use no Python, need no GIL, and may run in any number of threads.
- They are compiled when asked for, cached on disk, and stay where they are as long as the process
  lives: nobody has to keep or to free anything.

`header` returns a C header (``fastloss header > fastloss.h``), which declares the type of every
function and a struct with a member for each. `table` fills such a struct with the losses that a
program uses, and returns its address, which is all that C has to be handed::

    #include "fastloss.h"

    double step(const struct fastloss_api *api, double weight, double x, double target)
    {
        double slope;
        api->huber_f64(weight * x, target, 1.0, &slope, NULL);
        return weight - 0.1 * slope * x;
    }

and in Python, if that was compiled as a shared library::

    library = ctypes.CDLL("./libtraining.so")
    library.step.restype = ctypes.c_double
    library.step.argtypes = [ctypes.c_void_p] + 3 * [ctypes.c_double]
    library.step(fl.capi.table("huber"), weight, x, target)

SciPy takes point functions as they are, `fl.capi.huber.scipy` for instance: it integrates over the
prediction, and the further arguments are the target and the options::

    value, error = scipy.integrate.quad(fl.capi.huber.scipy(), 0.0, 3.0, args=(1.0, 0.5))
"""

import ctypes
import re
from collections.abc import Iterator
from functools import cache, cached_property
from typing import Any

from numba import types

from fastloss import __version__
from fastloss._loss import Loss
from fastloss._nopython import c_functions
from fastloss._nopython.building import domain, options_of
from fastloss._nopython.functions import attribute_of, has_function, require_function
from fastloss._options import Choice, Flag
from fastloss.losses import find, names

_TYPES = {"float32": (types.float32, "f32"), "float64": (types.float64, "f64")}


class CFunction:
    """A C function of a loss, compiled when its address is asked for.

    Parameters
    ----------
    loss : Loss
        The loss.
    variant : str
        The form of the function, such as "dense"; empty for the plain one.
    dtype : {"float32", "float64"}
        The type of its numbers.

    Attributes
    ----------
    name : str
        The name that the header gives it.
    signature : str
        How C would declare it.
    address : int
        Where it is: valid as long as the process lives.
    ctypes : ctypes function
        The function for `ctypes`; pointers may be None for NULL.

    Examples
    --------
    >>> import fastloss as fl
    >>> fl.capi.mse.float32.name
    'fastloss_mse_f32'
    """

    def __init__(self, loss: Loss, variant: str, dtype: str) -> None:
        self._loss, self._variant = loss, variant
        self._type, suffix = _TYPES[dtype]
        words = "_".join(filter(None, (loss.name, variant, suffix)))
        self.member = re.sub(r"\W", "_", words)  # of a lambda, too
        self.name = f"fastloss_{self.member}"

    def __repr__(self) -> str:
        return f"<C function {self.signature}>"

    @property
    def signature(self) -> str:
        """The declaration of the function in C."""
        return self._declared(self.name)

    def _declared(self, name: str) -> str:
        groups = c_functions.parameters_of(self._loss, self._variant, self._type)
        parameters = ", ".join(str(parameter) for group in groups for parameter in group)
        return f"{c_functions.C_NAMES[self._type]} {name}({parameters})"

    @property
    def typedef(self) -> str:
        """The declaration of the type of the function, which is called like it, with ``_t``."""
        return f"typedef {self._declared(f'(*{self.name}_t)')};"

    @cached_property
    def _compiled(self) -> Any:
        return c_functions.c_function(self._loss, self._variant, self._type)

    @property
    def address(self) -> int:
        """The address of the function, as a number."""
        return int(self._compiled.address)

    @property
    def ctypes(self) -> Any:
        """The function as `ctypes` has it."""
        return self._compiled.ctypes


class CFunctions:
    """The C functions of a loss: `float32`, `float64`, and its other forms as further attributes.

    Iterating goes through all of them in the order of the header.
    """

    def __init__(self, loss: Loss, variant: str = "") -> None:
        self._loss, self._variant = loss, variant
        self.float32 = CFunction(loss, variant, "float32")
        self.float64 = CFunction(loss, variant, "float64")
        others = () if variant else c_functions.variants_of(loss)[1:]
        self._others = [CFunctions(loss, other) for other in others]
        for name, other in zip(others, self._others, strict=True):
            setattr(self, name, other)

    def __repr__(self) -> str:
        return f"<C functions of {self._loss.name}>"

    def __iter__(self) -> Iterator[CFunction]:
        yield from (self.float32, self.float64)
        for other in self._others:
            yield from other

    def scipy(self) -> Any:
        """Return the point function for SciPy's integrators and other callers of C.

        Returns
        -------
        scipy.LowLevelCallable
            A function ``double f(int n, double *x)`` of the prediction, the target (with a second
            input, that too) and the options, of which those at the end may be left out.

        Raises
        ------
        TypeError
            The loss is one of rows.
        ModuleNotFoundError
            SciPy is not installed.
        """
        if self._loss.family != "elementwise":
            raise TypeError(
                f"{self._loss.name}: it is a function of rows; expected an elementwise loss"
            )
        from scipy import LowLevelCallable

        return LowLevelCallable(self._scipy_function.ctypes)

    @cached_property
    def _scipy_function(self) -> Any:
        return c_functions.scipy_function(self._loss, self._variant)


@cache
def of(loss: Loss) -> CFunctions:
    """Return the C functions of a loss, your own included.

    Parameters
    ----------
    loss : Loss
        A loss such as ``fastloss.huber``, for which this is ``fastloss.capi.huber``.

    Returns
    -------
    CFunctions
        With an attribute for each type.

    Raises
    ------
    TypeError
        It is not a loss.
    ValueError
        The loss is not one of single rows: those of `info_nce` meet all others.

    Examples
    --------
    >>> import fastloss as fl
    >>> fl.capi.of(fl.mse).float32.signature
    'float fastloss_mse_f32(float pred, float target, float *slope, float *curvature)'
    """
    require_function(loss, "capi.of")
    return CFunctions(loss)


_HEADER = """\
/* fastloss {version}: exact loss functions with their derivatives, as C functions.

   Each function returns the loss. It takes what the loss is of, rows followed by their size, then
   the options, then pointers to where the derivatives go: these may be NULL (those of a row all
   together), and must not overlap the rows. Options are as in Python, and none can be left out.
   A label outside [0, size) gives NAN; nothing else is checked. The functions allocate nothing,
   need neither Python nor its lock, and may be called by any number of threads.

   Where they are, a Python process tells: fastloss.capi.table("huber", "nll") returns the address
   of a struct fastloss_api with the functions of these losses, and NULL for those of all others.
   It and they belong to fastloss, and stay where they are as long as that process lives.

   Written by "fastloss header". */
#ifndef FASTLOSS_H
#define FASTLOSS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

{typedefs}
struct fastloss_api {{
    int64_t size; /* of the struct in bytes; another one than here: write the header anew */
{members}
}};

#ifdef __cplusplus
}}
#endif

#endif
"""


def header() -> str:
    """Return the C header of the library.

    Returns
    -------
    str
        The text of ``fastloss.h``, for C and C++: the type of every function, such as
        ``fastloss_huber_f64_t``, and ``struct fastloss_api`` with a member for each, such as
        `huber_f64`.

    Examples
    --------
    >>> import fastloss as fl
    >>> "fastloss_huber_f64_t huber_f64;" in fl.capi.header()
    True
    """
    typedefs, members = [], []
    for loss in _losses():
        typedefs += [f"/* fastloss.{loss.name}{_options_in_words(loss)} */"]
        typedefs += [function.typedef for function in of(loss)] + [""]
        members += [f"    {function.name}_t {function.member};" for function in of(loss)]
    return _HEADER.format(
        version=__version__, typedefs="\n".join(typedefs), members="\n".join(members)
    )


def _options_in_words(loss: Loss) -> str:
    words = []
    for name, option in options_of(loss).items():
        default = option.default
        if isinstance(option, Choice):
            meaning = " or ".join(f"{i} ({word})" for i, word in enumerate(option.words))
            words.append(f"{name} is {meaning}, by default 0")
        elif isinstance(option, Flag):
            words.append(f"{name} is 0 or 1, by default {default:d}")
        else:
            default = "NAN" if default is None else f"{default:g}"
            words.append(f"{name} is {domain(option).replace('None', 'NAN')}, by default {default}")
    return f": {'; '.join(words)}" if words else ""


def table(*losses: str) -> int:
    """Fill the struct of function pointers with those of some losses, and return its address.

    Parameters
    ----------
    *losses : str
        Names of losses; all of them if there is none, which compiles for a minute or two.

    Returns
    -------
    int
        The address of the process's one ``struct fastloss_api``. It belongs to fastloss and stays
        where it is; further calls fill in further losses.

    Raises
    ------
    ValueError
        There is no loss of that name, or it has no C function.

    Examples
    --------
    >>> import fastloss as fl
    >>> fl.capi.table("mse") == fl.capi.table("mse")
    True
    """
    chosen = {loss.name: loss for loss in _losses()}
    for name in losses:
        if name not in chosen:
            raise ValueError(
                f"table: there is no {name!r}; expected names among {', '.join(chosen)}"
            )
    struct = _struct()
    for name in losses or chosen:
        for function in of(chosen[name]):
            setattr(struct, function.member, function.address)
    return ctypes.addressof(struct)


@cache
def _struct() -> ctypes.Structure:
    """Return the process's struct, in which all pointers are NULL yet."""
    members = [function.member for loss in _losses() for function in of(loss)]

    class Table(ctypes.Structure):
        _fields_ = [("size", ctypes.c_int64), *((name, ctypes.c_void_p) for name in members)]

    return Table(size=ctypes.sizeof(Table))


def _losses() -> list[Loss]:
    """Return the losses that have C functions."""
    return [loss for loss in map(find, names()) if has_function(loss)]


def __getattr__(name: str) -> CFunctions:
    return of(attribute_of(__name__, name))


def __dir__() -> list[str]:
    return ["header", "of", "table", *(loss.name for loss in _losses())]
