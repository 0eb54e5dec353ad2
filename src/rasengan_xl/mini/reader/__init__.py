"""The attribute reader: a small network that says what a picture of the mini world shows."""

from rasengan_xl.mini.reader.loading import AttributeReader, load_reader
from rasengan_xl.mini.reader.network import QUESTIONS

__all__ = ["QUESTIONS", "AttributeReader", "load_reader"]
