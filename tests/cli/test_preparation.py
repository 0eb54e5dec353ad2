from pathlib import Path

from rich.console import Console

from rasengan_xl.cli.preparation import preparation_tables
from rasengan_xl.preparation.files import AccountFiles
from rasengan_xl.preparation.long_captions import LongCaption, LongCaptions
from rasengan_xl.preparation.prepare import Preparation
from rasengan_xl.preparation.records import AccountSummary, BucketCount, LookAlike
from rasengan_xl.runs.records import EncodingFacts

NAME = "a [red] :cat: one.png"


def preparation() -> Preparation:
    summary = AccountSummary(
        source="[bold]pics",
        revision=None,
        found=2010,
        used=2000,
        trained=1900,
        held_out=100,
        skipped=10,
        skipped_by_reason={"too small": 10},
        skipped_examples={"too small": f"{NAME}: 6 x 6 px"},
        ignored_files={".zip files": 1},
        upscaled=3,
        animated=2,
        notes={"unusable colour profile": 7},
        buckets={"64x32": BucketCount(trained=1900, held_out=100)},
        copies=4,
        alike=5,
        held_out_alike=1,
        held_out_alike_examples=(LookAlike(held_out=NAME, trained="b.png"),),
        captions=(
            LongCaptions(
                tokenizer="tokenizer",
                limit=77,
                count=1,
                wordings=2000,
                longest=99,
                examples=(LongCaption(name=NAME, tokens=99, cut_off="x" * 500),),
            ),
        ),
    )
    return Preparation(
        summary=summary,
        files=AccountFiles(pictures=Path("p"), summary=Path("s"), sheets=()),
        captions_encoded=EncodingFacts(asked=2000, encoded=0, damaged_files=0),
        crops_encoded=EncodingFacts(asked=2000, encoded=1, damaged_files=0),
    )


def test_every_number_is_shown_and_names_are_only_text():
    console = Console(width=200, record=True, quiet=False)
    with console.capture() as shown:
        for table in preparation_tables(preparation()):
            console.print(table)
    text = " ".join(shown.get().split())
    for expected in (
        "[bold]pics",
        "2,010",
        "1,900 trained on, 100 held out",
        f"such as {NAME}: 6 x 6 px",
        "1 .zip files",
        "7 unusable colour profile",
        f"{NAME} like b.png",
        f'{NAME} loses "{"x" * 60}..."',
        "of 2,000; 1,999 were there already",
        "64 x 32",
    ):
        assert expected in text, expected
