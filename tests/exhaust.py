"""Run generators to their end."""


def exhaust(generator):
    """Return what a generator returns, and drop what it yields."""
    return collect(generator)[1]


def collect(generator):
    """Return what a generator yields, and what it returns."""
    yielded = []
    while True:
        try:
            yielded.append(next(generator))
        except StopIteration as end:
            return yielded, end.value
