import http.client
import os
import re
import signal
import socket
import threading
from urllib.parse import urlsplit

import pytest

from rasengan_xl.errors import DeviceError, OutputError
from rasengan_xl.live import server
from rasengan_xl.live.server import serve_forever, serving
from rasengan_xl.report.own_script import SCRIPT_HASH

from . import growing_folder as growing

SECRET = "the secret outside"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.txt").write_text(SECRET)
    folder = outside / "comparison"
    folder.mkdir()
    growing.write_settings(folder)
    growing.draw_sample(folder, "base/000.png")
    (folder / "report.html").write_text("<!doctype html><title>report</title>")
    (folder / "other.html").write_text("<!doctype html><script>alert(1)</script>")
    (folder / "drawn" / "report.html").write_text("<!doctype html><script>alert(1)</script>")
    (folder / "notes.txt").write_text("inside")
    (folder / ".env.txt").write_text(SECRET)
    (folder / ".git").mkdir()
    (folder / ".git" / "config.txt").write_text(SECRET)
    (folder / "adapter.safetensors").write_text(SECRET)
    (folder / "script.py").write_text(SECRET)
    (folder / "link.txt").symlink_to(outside / "secret.txt")
    (folder / "way-out").symlink_to(outside)
    (folder / "hidden.txt").symlink_to(folder / ".env.txt")
    (folder / "circle.txt").symlink_to(folder / "circle.txt")
    (folder / "inside.txt").symlink_to(folder / "notes.txt")
    os.mkfifo(folder / "pipe.txt")
    return folder


@pytest.fixture(scope="module")
def port(folder):
    with serving(folder, 0) as address:
        yield urlsplit(address.url).port


def send(port, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


def get(port, target: bytes, host: bytes = b"127.0.0.1") -> bytes:
    return send(port, b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


HOSTILE = [
    b"/../secret.txt",
    b"/../../../../../../etc/hostname",
    b"/drawn/../../secret.txt",
    b"/drawn/..",
    b"/./notes.txt",
    b"/%2e%2e/secret.txt",
    b"/%2e%2e%2fsecret.txt",
    b"/..%2fsecret.txt",
    b"/..%5csecret.txt",
    b"/..\\secret.txt",
    b"/%252e%252e/secret.txt",
    b"/%c0%ae%c0%ae/secret.txt",
    b"/\xc0\xae\xc0\xae/secret.txt",
    b"/drawn/%2fetc%2fhostname",
    b"//etc/hostname",
    b"//127.0.0.1/notes.txt",
    b"/C:/secret.txt",
    b"/notes.txt:stream",
    b"/notes.txt%00.png",
    b"/notes.txt%0d%0aX-Injected:%20yes",
    b"/pictures",
    b"/drawn/",
    b"/drawn/base/",
    b"/.env.txt",
    b"/.git/config.txt",
    b"/%2egit/config.txt",
    b"/hidden.txt",
    b"/link.txt",
    b"/way-out/secret.txt",
    b"/circle.txt",
    b"/pipe.txt",
    b"/adapter.safetensors",
    b"/script.py",
    b"/absent.txt",
    b"/" + b"a" * 5000,
    b"http://127.0.0.1/notes.txt",
    b"file:///etc/hostname",
    b"notes.txt",
    b"*",
]


@pytest.mark.parametrize("target", HOSTILE)
def test_a_hostile_request_gets_nothing(port, target):
    answer = get(port, target)
    assert status(answer) in {400, 404}
    head, _, body = answer.partition(b"\r\n\r\n")
    assert re.fullmatch(rb"\d{3} [A-Za-z ]+\n", body)
    assert b"X-Injected" not in answer
    assert b"nosniff" in head


@pytest.mark.parametrize("target", [b"/notes.txt", b"/inside.txt", b"/notes.txt?x=../../y"])
def test_a_file_within_the_folder_is_given(port, target):
    answer = get(port, target)
    assert (status(answer), answer.endswith(b"\r\n\r\ninside")) == (200, True)


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/state.json", "application/json"),
        ("/settings.json", "application/json"),
        ("/report.html", "text/html; charset=utf-8"),
        ("/drawn/base/shown/000.png", "image/png"),
        ("/notes.txt", "text/plain; charset=utf-8"),
        ("/absent.txt", "text/plain; charset=utf-8"),
    ],
)
def test_every_answer_tells_its_kind_and_lets_nothing_foreign_in(port, target, kind):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", target)
    answer = connection.getresponse()
    policy = answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Type"] == kind
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy
    assert "*" not in policy
    connection.close()


@pytest.mark.parametrize("target", ["/other.html", "/drawn/report.html"])
def test_a_page_that_is_not_the_report_runs_nothing(port, target):
    policy = find_policy(port, target)
    assert "sandbox" in policy
    assert "script-src" not in policy


def test_the_report_runs_its_own_script_alone(port):
    policy = find_policy(port, "/report.html")
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}=';", policy)
    assert f"'{SCRIPT_HASH}'" in policy
    assert "sandbox" not in policy


def find_policy(port, target):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", target)
    policy = connection.getresponse().headers["Content-Security-Policy"]
    connection.close()
    return policy


def test_a_picture_comes_whole(port, folder):
    answer = get(port, b"/drawn/base/shown/000.png")
    assert answer.partition(b"\r\n\r\n")[2] == (folder / "drawn/base/shown/000.png").read_bytes()


@pytest.mark.parametrize(
    "host", [b"127.0.0.1", b"localhost", b"LOCALHOST", b"Localhost:9000", b"127.0.0.1:80"]
)
def test_this_machine_is_answered_by_any_of_its_names(port, host):
    assert status(get(port, b"/notes.txt", host)) == 200


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"evil.example:8765",
        b"127.0.0.1.evil.example",
        b"localhost.evil.example",
        b"localhost@evil.example",
        b"127x0x0x1",
        b"0.0.0.0",
        b"",
        b"localhost\r\nHost: evil.example",
    ],
)
def test_a_host_by_another_name_is_refused(port, host):
    for target in (b"/", b"/state.json", b"/notes.txt"):
        answer = get(port, target, host)
        assert status(answer) == 403
        assert b"inside" not in answer


def test_a_request_without_a_host_is_refused(port):
    assert status(send(port, b"GET /notes.txt HTTP/1.1\r\n\r\n")) == 403
    assert b"inside" not in send(port, b"GET /notes.txt\r\n\r\n")  # HTTP/0.9


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"])
def test_nothing_can_be_changed(port, folder, method):
    request = b" /notes.txt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
    assert status(send(port, method + request)) == 405
    assert (folder / "notes.txt").read_text() == "inside"


@pytest.mark.parametrize("method", [b"TRACE", b"CONNECT", b"get", b"PROPFIND"])
def test_an_unknown_method_is_refused(port, method):
    assert status(send(port, method + b" /notes.txt HTTP/1.1\r\nHost: localhost\r\n\r\n")) == 501


@pytest.mark.parametrize("target", [b"/", b"/state.json", b"/notes.txt", b"/absent.txt"])
def test_head_answers_without_a_body(port, target):
    answer = send(port, b"HEAD " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n")
    assert answer.count(b"\r\n\r\n") == 1


def test_only_this_machine_can_connect(port):
    others = {
        address[4][0] for address in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET)
    } - {"127.0.0.1"}
    for address in others | {"127.0.0.2"}:
        with pytest.raises(OSError):  # noqa: PT011 - refused or unreachable, as the system has it
            socket.create_connection((address, port), timeout=2).close()


def test_a_taken_port_is_left_for_the_next_and_said(tmp_path):
    with serving(tmp_path, 0) as first:
        taken = urlsplit(first.url).port
        with serving(tmp_path, taken) as second:
            found = urlsplit(second.url).port
            assert found > taken
            assert second.note == f"port {taken} is taken; using {found}"
        assert first.note is None


def test_where_no_port_is_free_an_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "_PORTS_TRIED", 0)
    with serving(tmp_path, 0) as first:
        taken = urlsplit(first.url).port
        with pytest.raises(DeviceError, match=f"--port {taken}"), serving(tmp_path, taken):
            pass


def test_the_port_is_free_again_afterwards(tmp_path):
    with serving(tmp_path, 0) as address:
        port = urlsplit(address.url).port
    with serving(tmp_path, port) as again:
        assert again.url == address.url


def test_ctrl_c_ends_it(folder):
    answers = []

    def press_ctrl_c(address):
        answers.append(get(urlsplit(address.url).port, b"/notes.txt"))
        os.kill(os.getpid(), signal.SIGINT)

    def announce(address):
        threading.Thread(target=press_ctrl_c, args=(address,)).start()

    serve_forever(folder, announce, 0)
    assert [status(answer) for answer in answers] == [200]


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(OutputError, match="is no folder"):
        serve_forever(tmp_path / "absent", lambda address: None)


def test_nothing_is_printed_when_a_reader_goes_away(port, capfd):
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status(get(port, b"/notes.txt")) == 200
    assert capfd.readouterr() == ("", "")


def test_many_can_look_at_once(port):
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(get(port, b"/state.json")))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [status(answer) for answer in answers] == [200] * 20
