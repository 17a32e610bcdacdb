"""The README's commands and snippets, run as they stand.

Convention, in README.md at the root of the repository:

- The first ```sh block with a line `make run` starts the server: that line runs in the background, on its default ports
  and its default directory ./data, until the last snippet has run. The ```text block that follows shows its ready line.
- A ```sh or ```python block with `<!-- run -->` on the line above it is run, in order. All ```sh blocks share one shell
  (bash, in the root of the repository), all ```python blocks one interpreter, with the environment of
  clients/python/requirements.txt: as if pasted into two terminals.
- A ```text block right after a block that is run is what it prints. `…` stands for anything.
- A ```sh or ```python block that is not run says why: `<!-- not run: reason -->` on the line above it.

A ./data that is there already is set aside and put back. The default ports must be free.
"""

from __future__ import annotations

import os
import pathlib
import re
import secrets
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass

import pytest
from conftest import ROOT, clean_environment, first_line

README = ROOT / "README.md"
PORTS = (50051, 8080)
#: `make run` builds if there is something to build.
BUILD_SECONDS = 3600
STOP_SECONDS = 60


@dataclass
class Block:
    """A fenced block of the README."""

    line: int
    language: str
    marker: str
    text: str
    output: str | None = None


def blocks() -> list[Block]:
    """The fenced blocks in order; an output is attached to the block before it."""
    lines = README.read_text().splitlines()
    found: list[Block] = []
    index = 0
    end_of_previous = None
    while index < len(lines):
        if not lines[index].startswith("```"):
            index += 1
            continue
        start, language = index, lines[index][3:].strip()
        index += 1
        body = []
        while lines[index] != "```":
            body.append(lines[index])
            index += 1
        marker = lines[start - 1].strip() if start else ""
        text = "\n".join(body) + "\n"
        between = lines[end_of_previous + 1 : start] if end_of_previous is not None else ["?"]
        if language == "text" and found and (found[-1].marker == "<!-- run -->") and not any(between):
            found[-1].output = text
        else:
            found.append(Block(start + 1, language, marker, text))
        end_of_previous = index
        index += 1
    return found


def matches(pattern: str, printed: str) -> bool:
    """Whether the output is as shown; `…` stands for anything, and space at the ends of lines does not count."""
    def trim(text):
        return "\n".join(line.rstrip() for line in text.strip().splitlines())

    parts = [re.escape(part) for part in trim(pattern).split("…")]
    return re.fullmatch(".*".join(parts), trim(printed), flags=re.DOTALL) is not None


def test_patterns():
    assert matches("a … c\n", "a b c")
    assert matches("a\n…\nz\n", "a\nb\nc\nz\n")
    assert not matches("a\n", "a\nb\n")
    assert not matches("a.c\n", "abc\n")


def test_every_snippet_is_run_or_says_why_not():
    runnable = [block for block in blocks() if block.language in ("sh", "bash", "console", "python")]
    assert len([block for block in runnable if block.marker == "<!-- run -->"]) >= 4
    for block in runnable:
        starts = re.search(r"^make run\b", block.text, flags=re.MULTILINE)
        marked = block.marker == "<!-- run -->" or block.marker.startswith("<!-- not run:")
        assert starts or marked, f"README.md:{block.line}: neither run nor said why not"


class Interpreter:
    """A process that runs one snippet after another and says after each how it ended."""

    def __init__(self, command: list[str], snippet_command, environment: dict[str, str]):
        self.mark = secrets.token_hex(8)
        self.snippet_command = snippet_command
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, path: pathlib.Path) -> tuple[str, str]:
        """Runs a file; what it printed, and `0` or how it failed."""
        self.process.stdin.write(self.snippet_command(str(path), self.mark) + "\n")
        self.process.stdin.flush()
        printed = []
        for line in self.process.stdout:
            before, mark, status = line.partition(self.mark)
            printed.append(before)
            if mark:
                return "".join(printed), status.strip()
        return "".join(printed), f"the interpreter ended with {self.process.wait()}"

    def close(self):
        self.process.stdin.close()
        self.process.stdout.read()
        self.process.wait(timeout=STOP_SECONDS)
        self.process.stdout.close()


def python_interpreter(environment):
    driver = (
        "import sys, traceback\n"
        "names = {'__name__': '__main__'}\n"
        "for line in sys.stdin:\n"
        "    path, mark = line.rstrip('\\n').split('\\t')\n"
        "    status = 0\n"
        "    try:\n"
        "        exec(compile(open(path).read(), path, 'exec'), names)\n"
        "    except BaseException:\n"
        "        traceback.print_exc(file=sys.stdout)\n"
        "        status = 1\n"
        "    print(mark, status, sep='', flush=True)\n"
    )
    return Interpreter([sys.executable, "-u", "-c", driver], lambda path, mark: f"{path}\t{mark}", environment)


def shell_interpreter(environment):
    # Each snippet is sourced, so that what it sets stays; a failing line of it shows in the status.
    def command(path, mark):
        return f"set -o pipefail; failed=0; trap 'failed=1' ERR; source {path}; trap - ERR; echo {mark}$failed"

    return Interpreter(["bash"], command, environment)


def in_use(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def default_data_directory():
    """No ./data to begin with; whatever was there comes back."""
    data, aside = ROOT / "data", ROOT / "data.set-aside-by-tests"
    assert not aside.exists(), f"{aside} is left of an earlier run: move it back to {data} or remove it"
    if data.exists():
        data.rename(aside)
    try:
        yield
    finally:
        subprocess.run(["rm", "-rf", str(data)], check=True)
        if aside.exists():
            aside.rename(data)


def test_the_readme_runs_as_it_stands(default_data_directory, tmp_path):
    for port in PORTS:
        assert not in_use(port), f"the README uses port {port}, which something listens on: stop it first"
    every = blocks()
    (start,) = [index for index, block in enumerate(every) if re.search(r"^make run\b", block.text, flags=re.MULTILINE)]
    ready = every[start + 1]
    assert ready.language == "text", "the ready line is shown after `make run`"

    of_make = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    environment = {name: value for name, value in clean_environment().items() if name not in of_make}
    environment["PATH"] = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    log = tmp_path / "make-run"
    with log.open("w") as stderr:
        # A group of its own, so that make and what it started can be stopped together, as Ctrl-C does.
        make = subprocess.Popen(
            ["make", "-s", "run"] if "-s run" in every[start].text else ["make", "run"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    interpreters = {"python": python_interpreter(environment), "sh": shell_interpreter(environment)}
    try:
        line = ready_line(make)
        assert matches(ready.text, line), f"README.md:{ready.line}: {line}\n{log.read_text()}"
        for number, block in enumerate(every):
            if block.marker != "<!-- run -->":
                continue
            path = tmp_path / f"snippet{number}"
            path.write_text(block.text)
            printed, status = interpreters[block.language].run(path)
            assert status == "0", f"README.md:{block.line} failed ({status}):\n{printed}"
            if block.output is not None:
                shown = f"--- shown ---\n{block.output}--- printed ---\n{printed}"
                assert matches(block.output, printed), f"README.md:{block.line}: it prints something else\n{shown}"
    finally:
        try:
            for interpreter in interpreters.values():
                interpreter.close()
        finally:
            stop(make)
    assert not any(in_use(port) for port in PORTS)


def ready_line(make: subprocess.Popen) -> str:
    """The ready line; make may print commands before it."""
    line = first_line(make, BUILD_SECONDS, lambda line: line.startswith("ready ") or not line)
    assert line, f"`make run` ended with {make.wait()}"
    return line


def stop(make: subprocess.Popen):
    if make.poll() is None:
        os.killpg(make.pid, signal.SIGINT)
    try:
        make.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(make.pid, signal.SIGKILL)
        make.wait()
        raise
