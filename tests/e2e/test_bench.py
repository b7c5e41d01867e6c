# SPDX-License-Identifier: Apache-2.0
"""sentinel-bench runs, verifies what it stored, and prints what scripts rest on. No claim about speed."""

import json
import os
import pathlib
import unittest

import fixture

KEYS = ("samples_per_second", "samples_per_hub_core_second", "ack_p50_us", "ack_p99_us", "wire_bytes_per_sample",
        "disk_bytes_per_sample", "hub_rss_bytes", "acknowledged", "refused")


class Bench(unittest.TestCase):
    def test_metrics_with_a_hub_of_its_own(self):
        where = fixture.scratch()
        done = fixture.run(fixture.program("sentinel-bench"), "metrics", "--agents", 10, "--series", 50, "--duration", "2s",
                           "--warmup", "0s", "--rate", 20000, "--verify", "--json", env={"TMPDIR": str(where)})
        told = json.loads(done.stdout)
        for key in KEYS:
            self.assertIsInstance(told[key], (int, float), key)
        self.assertGreater(told["acknowledged"], 0)
        self.assertEqual((told["refused"], told["verify_missing"], told["verify_double"]), (0, 0, 0))
        self.assertEqual(os.listdir(where), [], "it cleans up after itself")
        self.assertFalse([p for p in pathlib.Path("/proc").glob("[0-9]*/cmdline") if str(where).encode() in read(p)])


def read(path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


if __name__ == "__main__":
    fixture.main()
