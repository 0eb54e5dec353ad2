"""Processes of the command that load no libraries: a process that has loaded them forks.

Each has its own pid, signals, output and exit status as the real command has; only the seconds in
which torch and diffusers are imported are spent once.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, os, sys, time, traceback
from rasengan_xl.cli import app
from rasengan_xl.cli.quiet import quieten_imports
from rasengan_xl.loading import loading

quieten_imports()
with loading():
    import rasengan_xl.cli.comparing, rasengan_xl.cli.preparation, rasengan_xl.generation.generate
    import rasengan_xl.preparation.prepare, rasengan_xl.training.run


def become(told):
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(told["stdout"], os.O_WRONLY), 1)
    os.dup2(os.open(told["stderr"], os.O_WRONLY), 2)
    os.environ.clear()
    os.environ.update(told["environment"])
    sys.argv = ["rasengan", *told["arguments"]]
    try:
        app.main()
    except SystemExit as end:
        return end.code or 0
    except BaseException as error:
        traceback.print_exc()
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def wait(pid, seconds):
    deadline = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended or time.monotonic() > deadline:
            return os.waitstatus_to_exitcode(status) if ended else None
        time.sleep(0.01)


for line in sys.stdin:
    told = json.loads(line)
    if "pid" in told:
        answer = wait(**told)
    elif (answer := os.fork()) == 0:
        status = become(told)
        sys.stdout.flush()
        os._exit(status)
    print(json.dumps(answer), flush=True)
"""


class Nursery:
    """A process with the libraries loaded, of which others are born."""

    def __init__(self, folder: Path):
        self._folder, self._born = folder, 0
        command = (sys.executable, "-u", "-c", PROGRAM)
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **options)

    def start(self, *arguments, **environment):
        """Start the command in a process of its own, with variables besides those of this one."""
        self._born += 1
        files = [self._folder / f"{self._born}.{name}" for name in ("stdout", "stderr")]
        for file in files:
            file.touch()
        told = {"arguments": [*map(str, arguments)], "environment": {**os.environ, **environment}}
        pid = self.ask(**told, stdout=str(files[0]), stderr=str(files[1]))
        return Child(self, pid, *files)

    def ask(self, **told):
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.communicate()


class Child:
    """What a test needs of a `Popen`."""

    def __init__(self, nursery, pid, stdout, stderr):
        self._nursery, self.pid = nursery, pid
        self.stdout, self.stderr = stdout, stderr
        self.returncode = None

    def poll(self, seconds=0.0):
        if self.returncode is None:
            self.returncode = self._nursery.ask(pid=self.pid, seconds=seconds)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout):
        if self.poll(timeout) is None:
            raise subprocess.TimeoutExpired("rasengan", timeout)
        return self.stdout.read_text(), self.stderr.read_text()
