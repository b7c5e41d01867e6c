# SPDX-License-Identifier: Apache-2.0
"""sentinelctl as an operator types it, and the hub's offline commands."""

import json
import os
import unittest

import fixture
from fixture import batch, gauge, now_us


class Ctl(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()
        stream = fixture.Stream(cls.hub, cls.hub.issue("agent", "db-1")).hello(os.urandom(16))
        stream.welcome()
        start = now_us() - 300_000_000
        for i in range(1, 101):
            stream.send(batch=batch(i, [gauge(1, "test.wave", part="a")] if i == 1 else [], [(1, [1])] if i == 1 else [],
                                    [(start + i * 2_000_000, 1, [float(i % 20)])]))
        stream.ack(100)
        stream.end()

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def test_agents(self):
        self.assertIn("db-1", self.hub.ctl("agents", "list").stdout)
        agents = json.loads(self.hub.ctl("agents", "list", "--json").stdout)["agents"]
        self.assertEqual([(a["agent"], a["connected"], a["samples_stored"]) for a in agents], [("db-1", False, 100)])
        self.assertEqual(json.loads(self.hub.ctl("agents", "show", "db-1", "--json").stdout)["runs"][0]["last_sequence"], 100)
        self.hub.ctl("agents", "show", "nobody", check=3)

    def test_metrics(self):
        self.assertIn("test.wave", self.hub.ctl("metrics", "list").stdout)
        answer = json.loads(self.hub.ctl("metrics", "query", "test.wave", "--agent", "db-1", "--step", "2s", "--agg", "last", "--json").stdout)
        self.assertEqual(len(answer["series"][0]["points"]), 100)
        latest = self.hub.ctl("metrics", "query", "test.wave", "--latest", "--range", "1h").stdout
        self.assertEqual(len(latest.strip().splitlines()), 2)
        plot = self.hub.ctl("metrics", "plot", "test.wave", "--range", "10m").stdout
        self.assertIn("test.wave", plot)
        self.assertGreater(sum(0x2800 < ord(c) <= 0x28FF for c in plot), 20, "a plot has dots")
        self.assertIn("*", self.hub.ctl("metrics", "plot", "test.wave", "--range", "10m", "--ascii").stdout)
        self.hub.ctl("metrics", "query", "no.such.metric", check=3)

    def test_status(self):
        status = json.loads(self.hub.ctl("status", "--json").stdout)
        self.assertEqual(status["state"], "SERVING")
        self.assertGreaterEqual(status["samples_stored"], 100)
        self.assertIn("SERVING", self.hub.ctl("status").stdout)

    def test_mistakes_are_answered_with_the_nearest_word(self):
        done = self.hub.ctl("agents", "lisst", check=2)
        self.assertIn("list", done.stderr)
        done = self.hub.ctl("status", "--jsno", check=2)
        self.assertIn("--json", done.stderr)
        self.hub.ctl("metrics", "query", "test.wave", "--step", "soon", check=2)

    def test_a_hub_that_is_not_there_is_exit_5(self):
        fixture.run(fixture.program("sentinelctl"), "--hub", "127.0.0.1:1", "--identity", self.hub.admin, "status", check=5)

    def test_an_agents_identity_is_denied(self):
        self.hub.ctl("status", identity=self.hub.issue("agent", "nosy"), check=4)

    def test_help_has_examples(self):
        for program in ("sentinelctl", "sentinel-hub", "sentinel-agent", "sentinel-bench"):
            self.assertIn(program, fixture.run(fixture.program(program), "--help").stdout)
            self.assertTrue(fixture.run(fixture.program(program), "version").stdout)

    def test_check_config_names_line_column_and_nearest_key(self):
        bad = fixture.scratch() / "config.yaml"
        bad.write_text("listen:\n  grcp: 127.0.0.1:1\n")
        done = fixture.run(fixture.program("sentinel-hub"), "check-config", bad, check=None)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("config.yaml:2:3", done.stderr)
        self.assertIn("listen.grpc", done.stderr)
        printed = fixture.run(fixture.program("sentinel-hub"), "print-config").stdout
        good = fixture.scratch() / "config.yaml"
        good.write_text(printed)
        fixture.run(fixture.program("sentinel-hub"), "check-config", good)

    def test_init_twice_changes_nothing(self):
        before = (self.hub.state / "certs" / "ca-cert.pem").read_bytes()
        done = fixture.run(fixture.program("sentinel-hub"), "init", "--state-dir", self.hub.state, check=None)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual((self.hub.state / "certs" / "ca-cert.pem").read_bytes(), before)

    def test_a_second_hub_on_one_state_directory_is_refused(self):
        done = fixture.run(fixture.program("sentinel-hub"), "run", "--state-dir", self.hub.state, "--listen-grpc", "127.0.0.1:0", check=None)
        self.assertNotEqual(done.returncode, 0)
        self.assertTrue(self.hub.is_running())


if __name__ == "__main__":
    fixture.main()
