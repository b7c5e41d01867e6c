# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the hub under load, at random moments and at every fault point: between receive and ack, and on the way from the
journal into blocks of days, larger ones, and out again. The sealer is at work all the time.

The load and the oracle are sentinel-bench's: --reconnect goes on after each kill, --verify asks the hub for everything that was
acknowledged: all of it must be there, nothing twice, nothing that was never sent.
"""

import array
import json
import os
import random
import subprocess
import time
import unittest

import fixture
from fixture import gauge

FAULT_POINTS = ("state_before_commit", "state_after_commit", "journal_queued", "journal_before_commit", "journal_after_commit",
                "journal_before_done", "journal_rotate_before", "journal_rotate_after")

# In the order in which one death leads to the next: the first ones want load, the others the old days that were there before.
SEALER_POINTS = ("day_before_beginning", "seal_before_commit", "seal_after_commit", "seal_after_show", "checkpoint_before_unlink",
                 "checkpoint_after_unlink", "compact_before_commit", "compact_after_commit", "rewrite_before_exchange",
                 "rewrite_after_exchange")
RETENTION_POINTS = ("retention_before_unlink", "retention_after_unlink")
BUSY_SEALER = "journal:\n  segment_size: 1MiB\n  size: 4MiB\nstore:\n  seal_age: 1s\n"
DAY_US = 86_400_000_000
OLD_DAYS, OLD_ROWS, OLD_SERIES = range(2, 6), 100, 100


class Kill(unittest.TestCase):
    def configure(self, hub, text: str):
        (hub.home / "config.yaml").write_text(text)
        hub.flags = ["--config", str(hub.home / "config.yaml")]

    def needs_fault_points(self):
        if "faultpoint:" not in open(fixture.program("sentinel-hub", fixture.FAULTS), "rb").read().decode("latin1"):
            self.skipTest("SENTINEL_FAULTS names no build with fault points")

    def send_old_days(self, hub):
        """Noise of some days that are over, sealed and not yet compacted."""
        t = fixture.stubs().telemetry
        stream = fixture.Stream(hub, hub.issue("agent", "old-1")).hello(os.urandom(16))
        stream.welcome()
        noise = random.Random(1)
        for sequence, age in enumerate(OLD_DAYS, 1):
            begin = fixture.now_us() - age * DAY_US
            values = array.array("d", [noise.random() for _ in range(OLD_SERIES * OLD_ROWS)])
            stream.send(batch=t.MetricBatch(
                sequence=sequence, series=[gauge(i + 1, "old.noise", place=str(i)) for i in range(OLD_SERIES)] if sequence == 1 else [],
                layouts=[t.Layout(id=1, series_ids=range(1, OLD_SERIES + 1))] if sequence == 1 else [],
                scrapes=[t.Scrape(time_unix_us=begin + i, layout_id=1, values=values[i * OLD_SERIES:(i + 1) * OLD_SERIES])
                         for i in range(OLD_ROWS)]))
            stream.ack(sequence)
        stream.close()
        days = hub.state / "db" / "default" / "metrics"
        fixture.wait_until(lambda: len(list(days.iterdir())) >= len(OLD_DAYS), "the old days to be sealed")

    def count_old(self, hub, begin: str) -> int:
        answer = hub.ask("sentinel.query.v1.QueryService/QueryMetrics",
                         {"name": "old.noise", "range": {"from": begin, "to": "now"}, "step_text": "365d", "group_all": True,
                          "aggregation": "AGGREGATION_COUNT", "group_aggregation": "AGGREGATION_SUM"})
        return int(sum(float(p["value"]) for s in answer.get("series", []) for p in s["points"]))

    def load(self, hub, seconds: int, *flags):
        """sentinel-bench against a hub that will die; returns the process."""
        identities = hub.home / "identities"
        if not identities.exists():
            fixture.run(fixture.program("sentinel-bench"), "identities", "--state-dir", hub.state, "--out", identities, "--agents", 8)
        return fixture.start(
            [fixture.program("sentinel-bench"), "metrics", "--hub", f"127.0.0.1:{hub.port}", "--identities", str(identities),
             "--operator", str(hub.admin), "--agents", "8", "--series", "40", "--duration", f"{seconds}s", "--warmup", "0s",
             "--rate", "40000", "--reconnect", "--verify", "--json", *flags],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)

    def judge(self, bench) -> dict:
        out, err = bench.communicate(timeout=fixture.PATIENCE * 3)
        self.assertEqual(bench.returncode, 0, err[-3000:] + out)
        told = json.loads(out)
        self.assertEqual((told["verify_missing"], told["verify_double"], told["refused"]), (0, 0, 0), told)
        self.assertTrue(told["verified"])
        self.assertGreater(told["acknowledged"], 0)
        return told

    def test_random_moments(self):
        hub = fixture.Hub()
        self.configure(hub, BUSY_SEALER)
        hub.start()
        bench = self.load(hub, 12)
        dice = random.Random(4711)
        kills = 0
        until = time.monotonic() + 10
        while time.monotonic() < until:
            time.sleep(dice.uniform(0.3, 1.5))
            hub.kill()
            hub.start()
            kills += 1
        told = self.judge(bench)
        self.assertGreaterEqual(kills, 4)
        self.assertGreater(told["reconnects"], 0)
        hub.stop(expect=0)

    def start_to_die(self, hub, point: str, nth: int):
        """At the nth passing, or the first later one that does not come while the hub itself starts."""
        for n in range(nth, nth + 20):
            hub.start(env={"SENTINEL_FAULT": f"{point}:{n}"}, wait=False)
            try:
                hub.wait_ready()
                return
            except AssertionError:
                self.assertEqual(hub.process.wait(), -9)
                hub.kill()
        self.fail(f"{point}: the hub never starts")

    def test_every_fault_point(self):
        self.needs_fault_points()
        hub = fixture.Hub(build=fixture.FAULTS)
        self.configure(hub, BUSY_SEALER)
        hub.start()
        for point in FAULT_POINTS:
            for nth in (1, 3):
                if point.startswith(("state", "journal_rotate")) and nth > 1:
                    continue
                with self.subTest(point=point, nth=nth):
                    hub.stop()
                    self.start_to_die(hub, point, nth)
                    bench = self.load(hub, 4)
                    fixture.wait_until(lambda: not hub.is_running() or bench.poll() is not None, f"the hub to die at {point}")
                    died = not hub.is_running()
                    if died:
                        self.assertEqual(hub.process.wait(), -9)
                        hub.kill()
                        hub.start()
                    self.judge(bench)
                    self.assertTrue(died, f"{point}: never passed")
        hub.stop(expect=0)

    def test_every_fault_point_of_the_sealer(self):
        self.needs_fault_points()
        hub = fixture.Hub(build=fixture.FAULTS)
        self.addCleanup(hub.stop)
        self.configure(hub, BUSY_SEALER)
        hub.start()
        self.send_old_days(hub)
        bench = self.load(hub, 20, "--rate", "100000")
        hub.kill()
        for point in SEALER_POINTS:
            self.die_at(hub, point)
        hub.start()
        self.judge(bench)
        # None of the deaths has taken anything of the old days; then they expire, but the first two.
        self.assertEqual(self.count_old(hub, "-10d"), len(OLD_DAYS) * OLD_ROWS * OLD_SERIES)
        hub.kill()
        self.configure(hub, BUSY_SEALER + "retention: 3d\n")
        for point in RETENTION_POINTS:
            self.die_at(hub, point)
        hub.start()
        kept = {fixture.day_name(age) for age in OLD_DAYS if age <= 3}
        expired = {fixture.day_name(age) for age in OLD_DAYS} - kept
        days = hub.state / "db" / "default" / "metrics"
        there = lambda: {path.name for path in days.iterdir()}
        fixture.wait_until(lambda: not expired & there(), "the old days to expire")
        self.assertEqual(kept - there(), set())
        # What went with its day may still be answered from roll-ups; what is kept is there.
        self.assertGreaterEqual(self.count_old(hub, "-10d"), len(kept) * OLD_ROWS * OLD_SERIES)
        hub.stop(expect=0)

    def die_at(self, hub, point: str):
        with self.subTest(point=point):
            hub.start(env={"SENTINEL_FAULT": f"{point}:1"}, wait=False)
            try:
                fixture.wait_until(lambda: not hub.is_running(), f"the hub to die at {point}", timeout=30)
                self.assertEqual(hub.process.wait(), -9, hub.log[-3000:])
            finally:
                hub.kill()


if __name__ == "__main__":
    fixture.main()
