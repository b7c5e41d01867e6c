# SPDX-License-Identifier: Apache-2.0
"""sentinel-bench runs, verifies what it stored, and prints what scripts rest on. No claim about speed."""

import json
import os
import pathlib
import subprocess
import unittest

import fixture

KEYS = ("samples_per_second", "samples_per_hub_core_second", "ack_p50_us", "ack_p99_us", "wire_bytes_per_sample",
        "disk_bytes_per_sample", "hub_rss_bytes", "acknowledged", "refused", "constant_share", "disk_bytes_per_varying_sample")


class Bench(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.home = fixture.scratch()
        cls.recording = cls.home / "host.replay"
        cls.said = cls.bench(cls.home, "record", "--out", cls.recording, "--duration", "4s", "--interval", "200ms").stdout

    @classmethod
    def bench(cls, where, *argv, check=0):
        return fixture.run(fixture.program("sentinel-bench"), *argv, env={"TMPDIR": str(where)}, check=check, timeout=120)

    def told(self, *argv) -> dict:
        """What it prints as JSON; nothing of it may be left behind."""
        where = fixture.scratch()
        told = json.loads(self.bench(where, *argv, "--json").stdout)
        self.assertEqual(os.listdir(where), [], "it cleans up after itself")
        self.assertFalse([p for p in pathlib.Path("/proc").glob("[0-9]*/cmdline") if str(where).encode() in read(p)])
        return told

    def assert_numbers(self, told: dict, *keys):
        for key in keys:
            self.assertIsInstance(told[key], (int, float), key)

    def test_metrics_with_a_hub_of_its_own(self):
        told = self.told("metrics", "--agents", 10, "--series", 50, "--duration", "2s", "--warmup", "0s", "--rate", 20000, "--verify")
        self.assert_numbers(told, *KEYS)
        self.assertGreater(told["acknowledged"], 0)
        self.assertEqual((told["refused"], told["verify_missing"], told["verify_double"]), (0, 0, 0))

    def test_log_lines_are_taken_sealed_and_compacted(self):
        told = self.told("logs", "--agents", 4, "--lines", 13000, "--batch-lines", 250, "--verify")
        self.assert_numbers(told, "log_mb_per_second", "log_mb_per_hub_core_second", "log_mb_per_hub_core_second_under_load",
                            "log_bytes_ratio", "log_bytes_ratio_sealed", "ack_p50_us", "ack_p99_us", "hub_rss_bytes")
        self.assertEqual(told["lines"], 52000)
        self.assertEqual(told["log_form"], "block")
        self.assertTrue(told["verified"])
        self.assertTrue(told["tls"])

    def test_log_lines_are_the_same_as_records(self):
        told = self.told("logs", "--agents", 3, "--lines", 1000, "--batch-lines", 250, "--records", "--verify")
        self.assertEqual((told["lines"], told["log_form"], told["verified"]), (3000, "records", True))

    def test_searches_find_what_they_must(self):
        told = self.told("search", "--agents", 4, "--bytes", "3MB", "--repeat", 3)
        self.assert_numbers(told, "search_ms", "search_p99_ms", "first_page_ms", "first_page_p99_ms", "search_bytes_read", "stored_bytes")

    def test_uploads_beside_the_disk_alone(self):
        told = self.told("bulk", "--uploads", 2, "--size", "16MiB", "--rounds", 1)
        self.assert_numbers(told, "bulk_mb_per_second", "disk_mb_per_second", "bulk_disk_ratio", "hub_cpu_s_per_gb", "ack_p50_us",
                            "ack_p99_us")
        self.assertEqual((told["uploads"], told["bytes"], told["tls"]), (2, 16 << 20, True))

    def test_a_fleet_of_a_recording_is_kept_over_a_kill(self):
        self.assertRegex(self.said, r"\d+ series, \d+ of them constant, \d+ instants")
        told = self.told("metrics", "--data", self.recording, "--agents", 8, "--series", 200, "--duration", "1s", "--warmup", "0s",
                         "--rate", 40000, "--restart", "--verify")
        self.assert_numbers(told, *KEYS, "restart_ms", "restart_first_ack_ms")
        self.assertTrue(told["verified"])
        self.assertGreaterEqual(told["reconnects"], 8)
        self.assertTrue(0 < told["constant_share"] < 1, told["constant_share"])
        self.assertEqual(told["data"], str(self.recording))

    def test_a_count_of_scrapes_is_a_run_and_can_be_exported(self):
        told = self.told("metrics", "--data", self.recording, "--agents", 3, "--series", 30, "--scrapes", 40, "--verify")
        self.assertEqual(told["acknowledged"], 3 * 30 * 40)
        self.assertTrue(told["verified"])
        bench = [fixture.program("sentinel-bench"), "export", "--data", str(self.recording), "--agents", "3", "--series", "30",
                 "--scrapes", "40"]
        out = subprocess.run(bench, capture_output=True, timeout=60, check=True).stdout
        length = int.from_bytes(out[8:12], "little")
        header = json.loads(out[12:12 + length])
        self.assertEqual((out[:8], header["agents"], header["scrapes"], len(header["series"])), (b"SNTLFLT1", 3, 40, 30))
        self.assertEqual(len(out) - 12 - length, 3 * 40 * 8 * 31)

    def test_plaintext_is_compared_with_tls(self):
        told = self.told("metrics", "--agents", 2, "--series", 50, "--duration", "1s", "--warmup", "0s", "--rate", 100000,
                         "--compare-tls", "--verify")
        self.assert_numbers(told, "tls_cpu_ratio")
        self.assertTrue(told["tls"] and told["verified"])

    def test_questions(self):
        told = self.told("query", "--agents", 3, "--series", 20, "--repeat", 3)
        self.assert_numbers(told, "query_p50_us", "query_p99_us", "fleet_query_p50_us", "fleet_query_p99_us")
        # A day of one agent and an hour of three, each 10 s.
        self.assertAlmostEqual(told["samples"], 20 * (8640 + 3 * 360), delta=20 * 4)

    def test_connections(self):
        told = self.told("idle", "--connections", 60, "--hold", "1s")
        self.assert_numbers(told, "bytes_per_idle_connection", "idle_cpu_percent")
        self.assertGreater(told["bytes_per_idle_connection"], 0)
        for flags in (), ("--insecure",):
            told = self.told("handshakes", "--duration", "1s", "--warmup", "0s", "--concurrency", 4, *flags)
            self.assert_numbers(told, "handshakes_per_second", "handshake_p50_us", "handshake_p99_us")
            self.assertGreater(told["handshakes_per_second"], 0)

    def test_what_is_wrong_is_said(self):
        damaged = self.home / "damaged.replay"
        damaged.write_bytes(self.recording.read_bytes()[:-1])
        for argv, code, text in (
                (("metrics", "--data", damaged), 1, "damaged"),
                (("metrics", "--data", self.home / "absent"), 1, "cannot be read"),
                (("metrics", "--compare-tls"), 2, "--rate"),
                (("metrics", "--restart", "--hub", "127.0.0.1:1", "--identities", "x"), 2, "--hub"),
                (("query", "--interval", "7s"), 2, "--interval"),
                (("record",), 2, "--out"),
                (("idle", "--connections", 0), 2, "--connections")):
            with self.subTest(argv=argv):
                self.assertIn(text, self.bench(self.home, *argv, check=code).stderr)


def read(path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


if __name__ == "__main__":
    fixture.main()
