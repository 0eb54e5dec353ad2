import logging
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from rasengan_xl.fact_index import FactIndex


def test_a_fact_is_known_to_the_next_process(tmp_path: Path):
    file = tmp_path / "cache" / "facts.sqlite"
    with FactIndex(file) as index:
        index.put("digest", "a\udcff|1", b"one")
        assert index.get("digest", "a\udcff|1") == b"one"
        assert index.get("look", "a\udcff|1") is None
    with FactIndex(file) as index:
        assert index.get("digest", "a\udcff|1") == b"one"
        index.put("digest", "a\udcff|1", b"two")
    with FactIndex(file) as index:
        assert index.get("digest", "a\udcff|1") == b"two"


def damage(file: Path, how: str) -> None:
    content = file.read_bytes()
    if how == "old":
        with sqlite3.connect(file) as connection:
            connection.execute("DROP TABLE facts")
            connection.execute("CREATE TABLE facts (other)")
            connection.execute("PRAGMA user_version = 999")
        connection.close()
        return
    file.write_bytes({"text": b"no database at all" * 100, "cut": content[:5000]}[how])


@pytest.mark.parametrize("how", ["text", "cut", "old"])
def test_a_damaged_file_is_replaced(tmp_path: Path, how: str):
    file = tmp_path / "facts.sqlite"
    with FactIndex(file) as index:
        for number in range(2000):
            index.put("digest", str(number), bytes(32))
    damage(file, how)
    for _ in range(3):  # Damage deep in the file shows itself on first use.
        with FactIndex(file) as index:
            index.get("digest", "7")
            index.put("digest", "7", b"new")
    with FactIndex(file) as index:
        assert index.get("digest", "7") == b"new"


def test_a_folder_that_cannot_be_written_is_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "facts.sqlite", tmp_path):
        with FactIndex(place) as index:
            index.put("digest", "a", b"one")
            assert index.get("digest", "b") is None
        assert f"{place}: done without it" in caplog.text
    assert caplog.records[0].levelno == logging.WARNING


WRITE = """
import sys
from pathlib import Path
from rasengan_xl.fact_index import FactIndex

first = int(sys.argv[2])
with FactIndex(Path(sys.argv[1])) as index:
    for number in range(first, first + 600):
        index.put("digest", str(number), str(number).encode())
"""


def test_processes_write_at_once(tmp_path: Path):
    file = tmp_path / "facts.sqlite"
    file.write_bytes(b"damaged" * 1000)  # All of them find it, one replaces it.
    commands = [[sys.executable, "-c", WRITE, str(file), str(600 * n)] for n in range(3)]
    workers = [subprocess.Popen(command) for command in commands]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    with FactIndex(file) as index:
        for number in range(1800):
            assert index.get("digest", str(number)) == str(number).encode()
