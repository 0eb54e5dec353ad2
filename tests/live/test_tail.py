from rasengan_xl.live.tail import Tail


def test_each_line_is_read_once(tmp_path):
    file = tmp_path / "log"
    file.write_bytes(b"1\n2\n")
    tail = Tail(file)
    assert tail.read() == ([b"1", b"2"], True)
    assert tail.read() == ([], False)
    with file.open("ab") as log:
        log.write(b"3\n")
    assert tail.read() == ([b"3"], False)


def test_a_half_written_line_is_left_for_later(tmp_path):
    file = tmp_path / "log"
    file.write_bytes(b"1\n{'st")
    tail = Tail(file)
    assert tail.read()[0] == [b"1"]
    with file.open("ab") as log:
        log.write(b"ep'}\n")
    assert tail.read() == ([b"{'step'}"], False)


def test_a_log_that_comes_later_is_read_from_its_beginning(tmp_path):
    tail = Tail(tmp_path / "log")
    assert tail.read() == ([], False)
    assert tail.changed_at is None
    (tmp_path / "log").write_bytes(b"1\n")
    assert tail.read() == ([b"1"], True)
    assert tail.changed_at is not None


def test_a_log_that_was_replaced_is_read_anew(tmp_path):
    file = tmp_path / "log"
    file.write_bytes(b"1\n2\n")
    tail = Tail(file)
    tail.read()
    (tmp_path / "new").write_bytes(b"1\n2\n3\n")
    (tmp_path / "new").replace(file)
    assert tail.read() == ([b"1", b"2", b"3"], True)


def test_a_log_that_was_cut_is_read_anew(tmp_path):
    file = tmp_path / "log"
    file.write_bytes(b"1\n2\n")
    tail = Tail(file)
    tail.read()
    file.write_bytes(b"1\n")
    assert tail.read() == ([b"1"], True)


def test_a_log_that_was_removed_is_begun_anew(tmp_path):
    file = tmp_path / "log"
    file.write_bytes(b"1\n")
    tail = Tail(file)
    tail.read()
    file.unlink()
    assert tail.read() == ([], True)
