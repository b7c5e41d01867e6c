# SPDX-License-Identifier: Apache-2.0
"""What files, the journal and the kernel write arrives at the hub, every line once: through rotations of every kind, kills and
restarts of the agent.

SENTINEL_ROTATIONS is the number of rotations of the long story (400; 10000 takes some minutes)."""

import json
import os
import random
import stat
import struct
import time
import unittest

import fixture
import logfile

ROTATIONS = int(os.environ.get("SENTINEL_ROTATIONS", "400"))


class AgentLogs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def setUp(self):
        self.name = self._testMethodName.replace("_", "-")[5:45].strip("-")
        self.logs = self.hub.home / f"logs-{self.name}"
        self.logs.mkdir()

    def log(self, name: str = "app.log") -> logfile.Log:
        made = logfile.Log(self.logs / name)
        self.addCleanup(made.close)
        return made

    def agent(self, *flags, files="app.log") -> fixture.Agent:
        made = fixture.Agent(self.hub, self.name, flags=(
            "--logs-files", str(self.logs / files), "--logs-rotated-grace", "300ms", "--uplink-reconnect-spread", "50ms",
            "--uplink-backoff", "100ms", "--inventory-interval", "0", *flags))
        self.addCleanup(made.stop)
        return made

    def entries(self) -> list:
        return logfile.entries(self.hub, self.name)

    def bodies(self) -> list:
        return logfile.bodies(self.hub, self.name)

    def status(self, agent) -> dict:
        return json.loads(fixture.run(fixture.program("sentinel-agent"), "status", "--state-dir", agent.state, "--json",
                                      check=None).stdout or "{}").get("logs", {})

    def wait_for(self, *lines):
        fixture.wait_until(lambda: set(lines) <= set(self.bodies()), f"{lines[-1]!r}")

    def started(self, agent: fixture.Agent) -> fixture.Agent:
        agent.start()
        fixture.wait_until(lambda: self.status(agent) != {}, "the agent's status")
        return agent

    def assert_each_once(self, lines):
        try:
            fixture.wait_until(lambda: len(self.bodies()) >= len(lines), f"{len(lines)} lines")
        except AssertionError:
            pass  # which they are is said below
        self.assertEqual(logfile.differences(lines, self.bodies()), logfile.NO_DIFFERENCE)

    # ---- what a line becomes ----

    def test_a_line_has_its_severity_its_time_and_no_secret(self):
        self.started(self.agent("--logs-attributes", f"{self.logs}/* team=blue"))
        log = self.log()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - 60))
        log.raw(f"{stamp}.250Z ERROR disk is full\nlevel=warn password=hunter2 user=anna\nplain\n".encode())
        self.wait_for("plain")
        by_text = {e.text: e for e in self.entries()}
        error = by_text[f"{stamp}.250Z ERROR disk is full"]
        self.assertEqual(error.severity_number, 17)
        self.assertEqual(error.time.ToJsonString()[:23], f"{stamp}.250")
        self.assertEqual(by_text["level=warn password=[REDACTED] user=anna"].severity_number, 13)
        self.assertEqual((error.source_type, error.source), ("file", str(self.logs / "app.log")))
        self.assertEqual(error.source_attributes["team"], "blue")

    def test_lines_of_all_kinds_come_back_as_they_were_written(self):
        self.started(self.agent("--logs-max-record-size", "64KiB"))
        log = self.log()
        long = "".join(random.Random(1).choice("abcdefgh ") for _ in range(1 << 20))
        log.raw(b"nul \0 inside\n" + b"broken \xff\xfe utf-8\n" + "grüße \x1b[31m\n".encode() + b"with cr\r\n" + b"\n" +
                long.encode() + b"\nthe end\n")
        self.wait_for("the end")
        bodies = self.bodies()
        for expected in ("nul \0 inside", b"broken \xff\xfe utf-8", "grüße \x1b[31m", "with cr"):
            self.assertIn(expected, bodies)
        parts = [e for e in self.entries() if "log.record.part" in e.attributes]
        self.assertEqual("".join(e.text for e in parts), long)
        self.assertEqual(parts[-1].attributes["log.record.part"], "16 last")

    def test_lines_older_than_the_hub_keeps_are_dropped_in_few_messages_and_both_say_how_many(self):
        self.hub = fixture.Hub(flags=("--logs-retention", "1h")).start()
        self.addCleanup(self.hub.stop)
        agent = self.started(self.agent())
        log = self.log()
        old = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3 * 3600))
        log.raw(b"".join(f"{old} old line {i}\n".encode() for i in range(5000)) + b"a line of now\n")
        self.wait_for("a line of now")

        def ledger() -> dict:
            return json.loads(fixture.run(fixture.program("sentinel-agent"), "status", "--state-dir", agent.state, "--json").stdout)["spool"]["logs"]
        # The status is of the last round.
        fixture.wait_until(lambda: ledger()["produced"] > 5000 and ledger()["queued"] == 0, "the spool to be drained")
        told = ledger()
        self.assertEqual((told["dropped"], told["produced"]), (5000, 5000 + told["acknowledged"]), told)
        at_hub = json.loads(self.hub.ctl("agents", "list", self.name, "--json").stdout)["agents"][0]
        self.assertEqual((at_hub["log_records_skipped"], at_hub["log_records_stored"]), (5000, told["acknowledged"]))
        # Whole batches are not refused at all; of the one that has both, halves are.
        self.assertLess(agent.log.count("event=batch_refused"), 20)
        self.assertGreater(told["dropped_by_reason"]["too_old"], 4000)

    def test_lines_that_go_together_are_one_record(self):
        self.started(self.agent("--logs-multiline", f"{self.logs}/* ^[0-9]+ ", "--logs-multiline-timeout", "500ms"))
        log = self.log()
        trace = "2 Traceback:\n  File a\n  File b\nValueError: x"
        log.raw(f"1 one\n{trace}\n3 three\n  and more\n".encode())
        self.wait_for("1 one", trace, "3 three\n  and more")

    def test_what_is_not_wanted_stays_here_and_is_counted(self):
        agent = self.started(self.agent("--logs-exclude", "healthz", "--logs-include", "GET|POST"))
        log = self.log()
        log.raw(b"GET /healthz\nGET /a\nsomething else\nPOST /b\n")
        self.wait_for("GET /a", "POST /b")
        self.assertEqual(sorted(self.bodies()), ["GET /a", "POST /b"])
        fixture.wait_until(lambda: self.status(agent).get("filtered") == 2, "the count")

    def test_a_file_that_was_there_begins_at_its_end_unless_wished_otherwise(self):
        log = self.log()
        log.write(5, "before")
        before, log.lines = log.lines, []
        agent = self.started(self.agent())
        fixture.wait_until(lambda: self.status(agent).get("files") == 1, "the file")
        log.write(3, "after")
        self.wait_for(*log.lines)
        self.assertFalse(set(before) & set(self.bodies()))

    # ---- every line once ----

    def test_rotations_of_every_kind_lose_and_double_nothing(self):
        agent = self.started(self.agent())
        log, draw = self.log(), random.Random(7)
        for i in range(ROTATIONS):
            log.write(draw.randrange(1, 20))
            log.rotate(draw)
            log.write(draw.randrange(0, 5))
            if i % 20 == 0:  # no further ahead than the files that are kept
                self.wait_for(log.lines[-1]) if log.lines else None
        log.write(1, "last")
        self.wait_for(log.lines[-1])
        self.assert_each_once(log.lines)
        self.assertEqual(self.status(agent)["truncated_with_loss"], 0)

    def test_a_pattern_that_finds_rotated_files_too_reads_them_once(self):
        self.started(self.agent(files="app.log*"))
        log, draw = self.log(), random.Random(8)
        for _ in range(40):
            log.write(draw.randrange(1, 20))
            log.rotate(draw)
            log.write(2)
            time.sleep(0)  # lets the other process run; nothing rests on it
        log.write(1, "last")
        self.wait_for(log.lines[-1])
        self.assert_each_once(log.lines)

    def test_kills_of_the_agent_while_files_are_rotated_lose_and_double_nothing(self):
        agent = self.started(self.agent())
        log, draw = self.log(), random.Random(9)
        for _ in range(8):
            for _ in range(draw.randrange(1, 6)):
                log.write(draw.randrange(1, 30))
                log.rotate(draw)
            agent.kill()
            for _ in range(draw.randrange(0, 4)):
                log.write(draw.randrange(1, 30))
                log.rotate(draw)
            agent.start()
            log.write(1, "mark")
            self.wait_for(log.lines[-1])
        self.assert_each_once(log.lines)

    def test_an_empty_file_that_is_filled_and_renamed_while_nobody_looks_is_read(self):
        log = self.log()
        agent = self.started(self.agent())
        fixture.wait_until(lambda: self.status(agent).get("files") == 1, "the file")
        agent.kill()
        log.write(4)
        log.rename()
        log.write(1, "next")
        agent.start()
        self.wait_for(log.lines[-1])
        self.assert_each_once(log.lines)

    def test_an_inode_that_is_used_again_is_another_file(self):
        self.started(self.agent())
        log = self.log()
        for _ in range(10):
            log.write(4)
            self.wait_for(log.lines[-1])
            log.file.close()
            log.path.unlink()
            log.file = open(log.path, "ab", buffering=0)
        self.assert_each_once(log.lines)

    def test_a_hub_that_is_away_costs_no_line(self):
        self.started(self.agent())
        log = self.log()
        log.write(10)
        self.wait_for(log.lines[-1])
        self.hub.kill()
        log.write(500)
        log.rename()
        log.write(500)
        self.hub.start()
        self.wait_for(log.lines[-1])
        self.assert_each_once(log.lines)

    # ---- the journal and the kernel ----

    def entry(self, i: int, **fields) -> bytes:
        plain = {"__CURSOR": f"c{i}", "__REALTIME_TIMESTAMP": str(fixture.now_us()), "_SYSTEMD_UNIT": "web.service", "PRIORITY": "3",
                 "_PID": "77", **fields}
        text = "".join(f"{k}={v}\n" for k, v in plain.items()).encode()
        message = f"entry {i}\nof two lines".encode()
        return text + b"MESSAGE\n" + struct.pack("<Q", len(message)) + message + b"\n\n"

    def test_the_journal_goes_on_behind_its_cursor(self):
        entries = self.logs / "entries"
        entries.mkdir()
        program = self.logs / "journalctl"
        # Prints what lies behind the cursor, then ends: as one that was killed.
        program.write_text(f"""#!/bin/sh
n=0
for word; do case $word in --after-cursor=c*) n=${{word#--after-cursor=c}};; esac; done
echo "$*" >> {self.logs}/called
while n=$((n + 1)); [ -e {entries}/$n ]; do cat {entries}/$n; done
""")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        for i in (1, 2, 3):
            (entries / str(i)).write_bytes(self.entry(i))
        agent = self.started(self.agent("--logs-journald", "true", "--logs-journalctl", str(program), "--logs-journald-units", "web"))
        self.wait_for("entry 3\nof two lines")
        (entries / "4").write_bytes(self.entry(4))
        self.wait_for("entry 4\nof two lines")
        agent.kill()
        (entries / "5").write_bytes(self.entry(5))
        agent.start()
        self.wait_for("entry 5\nof two lines")
        self.assertEqual(sorted(self.bodies()), [f"entry {i}\nof two lines" for i in range(1, 6)])
        one = self.entries()[0]
        self.assertEqual((one.source_type, one.source, one.severity_number), ("journald", "web.service", 17))
        self.assertEqual(one.attributes["process.pid"], "77")
        self.assertIn("--unit web", (self.logs / "called").read_text())

    def test_the_kernels_messages_come_too(self):
        try:
            kernel = open("/dev/kmsg", "wb", buffering=0)
        except OSError:
            self.skipTest("/dev/kmsg cannot be written here")
        with kernel:
            self.started(self.agent("--logs-kmsg", "true"))
            kernel.write(f"<3>{self.name} says hello\n".encode())
            self.wait_for(f"{self.name} says hello")
        one = next(e for e in self.entries() if "says hello" in e.text)
        self.assertEqual((one.source_type, one.severity_number), ("kmsg", 17))

    def test_the_kernels_messages_between_the_first_two_runs_come_too(self):
        try:
            kernel = open("/dev/kmsg", "wb", buffering=0)
        except OSError:
            self.skipTest("/dev/kmsg cannot be written here")
        with kernel:
            kernel.write(f"<3>{self.name} was before\n".encode())
            agent = self.started(self.agent("--logs-kmsg", "true"))
            agent.stop()
            kernel.write(f"<3>{self.name} came between\n".encode())
            agent.start()
            self.wait_for(f"{self.name} came between")
        self.assertNotIn(f"{self.name} was before", self.bodies())

    # ---- settings ----

    def test_wrong_settings_are_refused_with_the_remedy(self):
        for flag, value, word in (("--logs-files", "var/log", "path from /"), ("--logs-exclude", "(", "logs.exclude"),
                                  ("--logs-multiline", "/a", "PATTERN REGEX"), ("--logs-attributes", "/a b", "key=value"),
                                  ("--logs-redact", "[", "logs.redact")):
            refused = fixture.run(fixture.program("sentinel-agent"), "check-config", flag, value, check=2)
            self.assertIn(word, refused.stderr)


if __name__ == "__main__":
    unittest.main()
