"""``python -m rasengan_xl.comparison``: a worker, which carries out one order."""

from rasengan_xl.loading import loading

with loading():
    from rasengan_xl.comparison.worker import main

if __name__ == "__main__":
    main()
