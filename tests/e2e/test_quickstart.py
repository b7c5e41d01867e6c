# SPDX-License-Identifier: Apache-2.0
"""server/quickstart as the README says it: a live table of this machine, and Ctrl-C leaves nothing behind."""

import os
import pathlib
import pty
import re
import select
import subprocess
import time
import unittest

import fixture

QUICKSTART = fixture.ROOT / "server" / "quickstart"


def processes_of(state: pathlib.Path) -> list[str]:
    """Command lines that name the state directory."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(state) in line and "sentinel-" in line:
            found.append(line)
    return found


class Quickstart(unittest.TestCase):
    def setUp(self):
        self.state = fixture.scratch() / "quickstart"
        self.env = {"SENTINEL_QUICKSTART": str(self.state)}

    def test_once_shows_this_machines_metrics_and_how_to_go_on(self):
        done = fixture.run(QUICKSTART, "--once", env=self.env, timeout=300)
        for words in ("system.cpu.time", "system.memory.usage", "connected", "grpcurl -cacert", "metrics plot"):
            self.assertIn(words, done.stdout)
        self.assertRegex(done.stdout, r"system\.memory\.usage\s+system\.memory\.state=used\s+.*ago\s+[\d.]+ [KMGT]iB")
        self.assertEqual(processes_of(self.state), [])

    def test_the_commands_that_it_prints_work(self):
        screen = Screen(self, self.env)
        text = screen.wait_for(r"Ctrl-C stops hub and agent")
        block = text[text.rindex("export SENTINEL_HUB="):]
        commands = re.sub(r"\\\r?\n\s*", " ", block.split("Ctrl-C")[0])
        for line in (line.strip() for line in commands.splitlines()):
            if not line or line.startswith(("(", "export ")):
                continue
            export = commands.strip().splitlines()[0].strip()
            done = subprocess.run(["bash", "-c", f"{export}; {line}"], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, f"{line}\n{done.stderr}")
            self.assertTrue(done.stdout)
        screen.interrupt()
        self.assertEqual(processes_of(self.state), [])


class Screen:
    """quickstart on a terminal."""

    def __init__(self, test, env):
        pid, self.terminal = pty.fork()
        if pid == 0:
            os.environ.update(env, TERM="xterm", COLUMNS="200", LINES="60")
            os.execv(str(QUICKSTART), [str(QUICKSTART)])
        self.pid, self.test, self.text = pid, test, ""
        test.addCleanup(self.interrupt)

    def wait_for(self, pattern: str) -> str:
        deadline = time.monotonic() + 300
        while not re.search(pattern, self.text):
            if time.monotonic() > deadline:
                self.test.fail(f"never saw {pattern}:\n{self.text[-3000:]}")
            if select.select([self.terminal], [], [], 1)[0]:
                self.text += os.read(self.terminal, 65536).decode(errors="replace")
        return self.text

    def interrupt(self):
        """Ctrl-C, as typed."""
        if self.pid is None:
            return
        os.write(self.terminal, b"\x03")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if select.select([self.terminal], [], [], 0.2)[0] and not os.read(self.terminal, 65536):
                    break
            except OSError:
                break
        _, status = os.waitpid(self.pid, 0)
        self.pid = None
        os.close(self.terminal)
        self.test.assertEqual(os.waitstatus_to_exitcode(status), 0)


if __name__ == "__main__":
    fixture.main()
