"""The way of rows into tiles, of class-first arrays into rows, and back."""

import numpy as np
from numba import njit

from fastloss._drivers.common import LANES, inlined, place_of_row
from fastloss._jit import LOOPS
from fastloss._llvm import own_function, part_of, transpose_block


@njit(**LOOPS)
def transpose(values, first, step, height, width, out, out_first, out_step):
    """Write line i < height of `values` as column i of `out`, entry by entry j < width.

    In squares of 8 or 4; the last ones are moved back into the array and do some entries twice.
    """
    own_function()
    if min(height, width) >= 8:
        for i in range(0, height, 8):
            for j in range(0, width, 8):
                y, x = min(i, height - 8), min(j, width - 8)
                place, out_place = first + y * step + x, out_first + x * out_step + y
                transpose_block(values, place, step, out, out_place, out_step, 8)
    elif min(height, width) >= 4:
        for i in range(0, height, 4):
            for j in range(0, width, 4):
                y, x = min(i, height - 4), min(j, width - 4)
                place, out_place = first + y * step + x, out_first + x * out_step + y
                transpose_block(values, place, step, out, out_place, out_step, 4)
    elif height > width:
        for j in range(width):
            column = part_of(out, out_first + j * out_step, height)
            for i in range(height):
                column[i] = values[np.uintp(first + i * step + j)]
    else:
        for i in range(height):
            line = part_of(values, first + i * step, width)
            for j in range(width):
                out[np.uintp(out_first + j * out_step + i)] = line[j]


@inlined
def add_transposed(tile_values, start, size, classes, rows):
    """Add the rows of a tile to those where they came from."""
    for c in range(classes):
        column = part_of(tile_values, c * LANES, size)
        for i in range(size):
            rows[np.uintp(start + i * classes + c)] += column[i]


@njit(**LOOPS)
def rows_from_columns(array, first, rows, classes, inner, out):
    """Copy neighbouring rows of an array of shape (…, classes, inner), flat, to contiguous ones."""
    own_function()
    done = 0
    while done < rows:
        row = first + done
        size = min(rows - done, inner - row % inner)  # that lie side by side, class by class
        place = place_of_row(row, classes, inner)
        transpose(array, place, inner, classes, size, out, done * classes, classes)
        done += size


@njit(**LOOPS)
def columns_from_rows(values, array, first, rows, classes, inner):
    """Copy contiguous rows to where `rows_from_columns` takes them from."""
    own_function()
    done = 0
    while done < rows:
        row = first + done
        size = min(rows - done, inner - row % inner)
        place = place_of_row(row, classes, inner)
        transpose(values, done * classes, classes, size, classes, array, place, inner)
        done += size
