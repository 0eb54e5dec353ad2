"""``python -m rasengan_xl``: the same as ``rasengan``."""

from rasengan_xl.cli.app import main

main()
