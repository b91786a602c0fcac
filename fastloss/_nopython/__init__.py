"""The losses inside other compiled code: point and row functions, and calls in nopython code."""
