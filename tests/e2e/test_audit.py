# SPDX-License-Identifier: Apache-2.0
"""The audit log: one chain over starts, kills and days; what is changed in it is named."""

import datetime
import json
import pathlib
import re
import shutil
import signal
import unittest

import fixture

DAY_S = 86400


class Rig(unittest.TestCase):
    def hub(self, **options) -> fixture.Hub:
        hub = fixture.Hub(**options)
        self.addCleanup(hub.stop)
        return hub

    def audit(self, hub, *words, check=0):
        return fixture.run(fixture.program("sentinel-hub"), "audit", *words, "--state-dir", hub.state, check=check)

    def verdict(self, hub, *words, check=0) -> dict:
        return json.loads(self.audit(hub, "verify", "--json", *words, check=check).stdout)

    def entries(self, hub, *words) -> list[dict]:
        return [json.loads(line) for line in self.audit(hub, "export", *words).stdout.splitlines()]

    def check_whole(self, hub) -> dict:
        verdict = self.verdict(hub)
        self.assertTrue(verdict["is_whole"], verdict)
        return verdict


class Audit(Rig):
    def test_starts_reloads_kills_and_stops_are_one_chain_beside_a_running_hub(self):
        hub = self.hub().start()
        self.check_whole(hub)
        hub.process.send_signal(signal.SIGHUP)
        fixture.wait_until(lambda: "event=reloaded" in hub.log, "the reload")
        hub.issue("operator", "anna")
        hub.kill()
        hub.start()
        hub.stop(expect=0)
        hub.start()
        events = [entry["event"] for entry in self.entries(hub) if entry["event"].startswith("hub.")]
        self.assertEqual(events, ["hub.started", "hub.settings", "hub.started", "hub.stopped", "hub.started"])
        numbers = [entry["number"] for entry in self.entries(hub)]
        self.assertEqual(numbers, list(range(1, len(numbers) + 1)))
        found = self.audit(hub, "search", "hub.st*", "--limit", "2")
        self.assertIn("hub.started", found.stdout.splitlines()[0])
        self.assertIn("hub.stopped", found.stdout.splitlines()[1])
        self.assertIn("there are more", found.stderr)
        self.assertEqual(self.audit(hub, "search", "no.such", check=3).stdout, "")
        verdict = self.check_whole(hub)
        self.assertGreaterEqual(verdict["anchors"], 1, "the stop signed it")
        whole = fixture.run(fixture.program("sentinel-hub"), "verify", "--state-dir", hub.state)
        self.assertIn("entries in one chain", whole.stdout)

    def test_the_log_of_the_hub_is_a_witness(self):
        hub = self.hub().start()
        hub.stop(expect=0)
        log = hub.home / "hub.log"
        log.write_text(hub.log)
        self.assertIn("event=audit_anchor", hub.log)
        before = self.check_whole(hub)["anchors"]
        self.assertEqual(self.verdict(hub, "--anchors", log)["anchors"], before + hub.log.count("event=audit_anchor "))
        # An older state in place of the newer one: the chain is whole, and the log says otherwise.
        shutil.copytree(hub.state, hub.home / "older")
        hub.start()
        hub.stop(expect=0)
        log.write_text(hub.log)
        shutil.rmtree(hub.state)
        (hub.home / "older").rename(hub.state)
        self.check_whole(hub)
        verdict = self.verdict(hub, "--anchors", log, check=1)
        self.assertIn("older backup", verdict["why"])
        # Whoever forges one needs the hub's key.
        log.write_text(re.sub(r"entry=\d+", "entry=999", hub.log))
        said = self.audit(hub, "verify", "--anchors", log)
        self.assertIn("not signed by this hub", said.stderr)

    def test_a_byte_that_somebody_changed_is_named(self):
        hub = self.hub().start()
        hub.stop(expect=0)
        entry = next(e for e in self.entries(hub) if e["event"] == "hub.started")
        data = hub.state / "db" / "state" / "data.mdb"
        pages = data.read_bytes()
        self.assertIn(b"development", pages)
        data.write_bytes(pages.replace(b"development", b"productions"))
        said = self.audit(hub, "verify", check=1)
        self.assertIn(f"broken at entry {entry['number']}: it was changed", said.stderr)
        whole = fixture.run(fixture.program("sentinel-hub"), "verify", "--state-dir", hub.state, check=6)
        self.assertIn(f"entry {entry['number']}: it was changed", whole.stdout)
        # The hub serves all the same, and the chain goes on.
        hub.start()
        hub.stop(expect=0)
        data.write_bytes(data.read_bytes().replace(b"productions", b"development"))
        self.check_whole(hub)


class Days(Rig):
    """With a clock that a file sets: the hub lives some days in seconds."""

    def setUp(self):
        if fixture.is_sanitized():
            self.skipTest("AddressSanitizer wants to be the first library")
        self.shift = fixture.scratch() / "shift"

    def live(self, hub, days: int, fault: str | None = None, until: str = "ready"):
        """A start and a stop on that day from now; `until` stands in the log between them."""
        self.shift.write_text(str(days * DAY_S))
        env = {"LD_PRELOAD": str(fixture.BUILD / "tests" / "power" / "clock_shift.so"), "SENTINEL_CLOCK_SHIFT": str(self.shift)}
        if fault:
            env["SENTINEL_FAULT"] = fault
            env["ASAN_OPTIONS"] = "verify_asan_link_order=0"  # the clock comes before it
        hub.log = ""
        hub.start(env=env, wait=fault is None)
        if fault:
            hub.process.wait(fixture.PATIENCE)
            self.assertEqual(hub.process.returncode, -signal.SIGKILL, hub.log)
            hub.kill()
        else:
            fixture.wait_until(lambda: until in hub.log, until)
            hub.stop(expect=0)

    def days(self, hub) -> list[pathlib.Path]:
        return sorted((hub.state / "audit").iterdir())

    def make(self) -> fixture.Hub:
        hub = self.hub()
        (hub.home / "config.yaml").write_text("audit:\n  hot: 1d\n  cold: 20d\n")
        hub.flags += ["--config", str(hub.home / "config.yaml")]
        return hub

    def test_days_become_files_that_search_export_verify_and_backup_see(self):
        hub = self.make()
        for day in (0, 1, 2):
            self.live(hub, day)
        for day in (3, 4):
            self.live(hub, day, until="event=audit_day_closed")
        files = self.days(hub)
        today = datetime.datetime.now(datetime.timezone.utc)
        self.assertEqual([f.name for f in files][:2],
                         [(today + datetime.timedelta(days=d)).strftime("%Y%m%d") for d in (0, 1)])
        self.assertGreaterEqual(len(files), 3)
        verdict = self.check_whole(hub)
        self.assertEqual(verdict["days"], len(files))
        self.assertGreaterEqual(verdict["anchors"], 5)
        self.assertEqual([e["event"] for e in self.entries(hub)].count("hub.stopped"), 5)
        self.assertEqual(len(self.audit(hub, "search", "hub.stopped").stdout.splitlines()), 5)
        # A clock that is set back changes nothing of it.
        self.live(hub, 2)
        self.check_whole(hub)
        self.assertEqual([e["event"] for e in self.entries(hub)].count("hub.stopped"), 6)

        to = hub.home / "backup"
        fixture.run(fixture.program("sentinel-hub"), "backup", "--state-dir", hub.state, "--to", to)
        copy = hub.home / "restored"
        fixture.run(fixture.program("sentinel-hub"), "restore", "--from", to, "--state-dir", copy)
        restored = self.hub(state=copy)
        self.assertEqual([f.name for f in self.days(restored)], [f.name for f in self.days(hub)])
        self.assertEqual([e["event"] for e in self.entries(restored)][-1], "hub.restored")
        self.check_whole(restored)

        # A file that is damaged, one that is gone.
        victim = self.days(restored)[1]
        good = victim.read_bytes()
        victim.write_bytes(good[:200] + bytes([good[200] ^ 1]) + good[201:])
        self.assertIn(victim.name, self.audit(restored, "verify", check=1).stderr)
        self.assertIn("damaged_from", self.audit(restored, "export").stdout)
        victim.unlink()
        self.assertIn("is missing", self.audit(restored, "verify", check=1).stderr)
        victim.write_bytes(good)
        self.check_whole(restored)

    def test_the_oldest_days_go_by_their_age_and_the_chain_says_so(self):
        hub = self.make()
        for day in (0, 1, 2):
            self.live(hub, day)
        self.live(hub, 24, until="event=audit_day_closed")
        fixture.wait_until(lambda: any(e["event"] == "audit.retained_out" for e in self.entries(hub)), "the word")
        self.assertEqual(self.entries(hub)[0]["number"], 1)
        said = [e for e in self.entries(hub) if e["event"] == "audit.retained_out"]
        self.assertEqual(said[0]["fields"]["first"], "1")
        self.live(hub, 25, until="event=audit_day_gone")  # an hour is over by far
        first = self.entries(hub)[0]["number"]
        self.assertEqual(first, int(said[0]["fields"]["last"]) + 1)
        self.assertEqual(self.check_whole(hub)["first"], first)

    def test_a_hub_that_is_killed_while_it_closes_a_day_goes_on_with_it(self):
        if b"faultpoint:" not in pathlib.Path(fixture.program("sentinel-hub", fixture.FAULTS)).read_bytes():
            self.skipTest("SENTINEL_FAULTS names no build with fault points")
        for fault in ("audit_before_rename", "audit_renamed", "audit_rows_taken"):
            with self.subTest(fault=fault):
                hub = self.make()
                for day in (0, 1):
                    self.live(hub, day)
                hub.build = fixture.FAULTS
                self.live(hub, 5, fault=fault)
                hub.build = fixture.BUILD
                self.check_whole(hub)
                events = [e["event"] for e in self.entries(hub)]
                self.assertEqual(events.count("hub.stopped"), 2)
                self.live(hub, 5)
                self.check_whole(hub)
                self.assertFalse([f for f in self.days(hub) if f.suffix], "nothing half is left")


if __name__ == "__main__":
    fixture.main()
