# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the hub under load, at random moments and at every fault point between receive and ack.

The load and the oracle are sentinel-bench's: --reconnect goes on after each kill, --verify asks the hub for everything that was
acknowledged: all of it must be there, nothing twice, nothing that was never sent.
"""

import json
import random
import subprocess
import time
import unittest

import fixture

FAULT_POINTS = ("state_before_commit", "state_after_commit", "journal_queued", "journal_before_commit", "journal_after_commit",
                "journal_before_done", "journal_rotate_before", "journal_rotate_after")


class Kill(unittest.TestCase):
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
        hub = fixture.Hub().start()
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

    def test_every_fault_point(self):
        if "faultpoint:" not in open(fixture.program("sentinel-hub", fixture.FAULTS), "rb").read().decode("latin1"):
            self.skipTest("SENTINEL_FAULTS names no build with fault points")
        hub = fixture.Hub(build=fixture.FAULTS)
        (hub.home / "config.yaml").write_text("journal:\n  segment_size: 1MiB\n")
        hub.flags = ["--config", str(hub.home / "config.yaml")]
        hub.start()
        for point in FAULT_POINTS:
            for nth in (1, 3):
                if point.startswith(("state", "journal_rotate")) and nth > 1:
                    continue
                with self.subTest(point=point, nth=nth):
                    hub.stop()
                    hub.start(env={"SENTINEL_FAULT": f"{point}:{nth}"})
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


if __name__ == "__main__":
    fixture.main()
