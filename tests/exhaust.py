"""Run generators to their end."""


def exhaust(generator):
    """Return what a generator returns, and drop what it yields."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value
