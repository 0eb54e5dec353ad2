"""Train the two CLIP tokenizers of mini SDXL on captions of its world."""

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, trainers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from rasengan_xl.mini.architecture import MAX_TOKENS

START_TOKEN = "<|startoftext|>"
END_TOKEN = "<|endoftext|>"
LARGEST_VOCABULARY = 1024


def train_tokenizers(captions: Iterable[str]) -> tuple[CLIPTokenizer, CLIPTokenizer]:
    """Learn byte-pair merges from captions and wrap them as SDXL's two tokenizers.

    Both share one vocabulary.  As in SDXL, the first pads with its end token and the second
    with token 0, "!".
    """
    vocabulary, merges = _learn_merges(captions)

    def tokenizer(pad_token: str) -> CLIPTokenizer:
        kind: Any = CLIPTokenizer  # its own type of merges is not the one it takes
        return kind(
            vocab=vocabulary,
            merges=merges,
            bos_token=START_TOKEN,
            eos_token=END_TOKEN,
            unk_token=END_TOKEN,
            pad_token=pad_token,
            model_max_length=MAX_TOKENS,
        )

    return tokenizer(END_TOKEN), tokenizer("!")


def _learn_merges(captions: Iterable[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    blank = CLIPTokenizer().backend_tokenizer  # for CLIP's own rules of splitting text
    learner = Tokenizer(BPE(end_of_word_suffix="</w>"))
    learner.normalizer = blank.normalizer
    learner.pre_tokenizer = blank.pre_tokenizer
    # Every byte, inside a word and at its end, so that any text can be written in tokens.
    alphabet = sorted(ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=LARGEST_VOCABULARY - 2,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    merges = [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]
    ordered = ["!", *sorted({*alphabet} - {"!"}), *(f"{letter}</w>" for letter in alphabet)]
    ordered += [token for left, right in merges if (token := left + right) not in set(ordered)]
    ordered += [START_TOKEN, END_TOKEN]
    return {token: i for i, token in enumerate(ordered)}, merges
