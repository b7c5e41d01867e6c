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

    def test_what_an_agent_says_of_itself_does_not_reach_the_terminal_or_the_log_as_it_is(self):
        sly = "\x1b[2J\x07\u009b31m\u202e\nts=now level=info event=forged"
        stream = fixture.Stream(self.hub, self.hub.issue("agent", "sly"))
        s = fixture.stubs()
        stream.send(hello=s.telemetry.StreamHello(
            spool_id=os.urandom(16), first_sequence=1, instance=os.urandom(16), time_unix_us=now_us(), agent_version=sly[:20],
            host=[s.telemetry.Attribute(key=key, value=sly) for key in ("os.description", "host.name")]))
        try:
            stream.welcome()
        except Exception:  # refused is as good as shown harmlessly; the log must not be hurt by it either
            stream = fixture.Stream(self.hub, self.hub.issue("agent", "sly")).hello(os.urandom(16))
            stream.welcome()
        stream.send(batch=batch(1, [gauge(1, "test.sly", part=sly)], [(1, [1])], [(now_us(), 1, [1.0])]))
        try:
            stream.ack(1)
        except Exception:
            pass
        stream.close()

        def harmless(text: str):
            self.assertFalse([c for c in text if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c == "\u202e"], text)
            self.assertFalse([line for line in text.splitlines() if line.startswith("ts=now")], text)
        for words in (["agents", "list"], ["agents", "show", "sly"], ["metrics", "list"], ["metrics", "query", "test.sly"],
                      ["metrics", "plot", "test.sly"], ["metrics", "plot", "test.sly", "--json"], ["agents", "show", "sly", "--json"],
                      ["agents", "show", sly], ["metrics", "query", sly], ["metrics", "list", "--agent", sly], [sly], ["--" + sly]):
            done = self.hub.ctl(*words, check=None)
            self.assertNotEqual(done.returncode, -11)
            harmless(done.stdout)
            harmless(done.stderr)
        harmless(self.hub.log)

    def test_completion_knows_every_command_and_flag(self):
        bash = self.hub.ctl("completion", "bash").stdout
        asked = bash + 'COMP_WORDS=(sentinelctl --hub x metrics pl) COMP_CWORD=4; _sentinelctl; echo "${COMPREPLY[@]}"\n' \
            'COMP_WORDS=(sentinelctl agents) COMP_CWORD=1; _sentinelctl; echo "${COMPREPLY[@]}"\n' \
            'COMP_WORDS=(sentinelctl agents list --js) COMP_CWORD=3; _sentinelctl; echo "${COMPREPLY[@]}"\n' \
            'COMP_WORDS=(sentinelctl metrics plot x --agg r) COMP_CWORD=5; _sentinelctl; echo "${COMPREPLY[@]}"\n'
        done = fixture.run("bash", "-c", asked)
        self.assertEqual(done.stdout.splitlines(), ["plot", "agents", "--json", "rate"], done.stderr)
        for shell in ("zsh", "fish"):
            self.assertIn("agents", self.hub.ctl("completion", shell).stdout)
        self.hub.ctl("completion", "tcsh", check=2)

    def test_words_too_few_and_too_many(self):
        self.assertIn("agents list", self.hub.ctl("agents", "show", check=2).stderr)
        self.assertIn("NAME", self.hub.ctl("metrics", "query", check=2).stderr)
        self.assertIn("`b`", self.hub.ctl("agents", "list", "a", "b", check=2).stderr)
        self.hub.ctl("metrics", "query", "test.wave", "--top", "4294967296", check=2)
        self.hub.ctl("metrics", "query", "test.wave", "--from", "-9999999999999d", check=2)
        self.hub.ctl("metrics", "query", "test.wave", "--from", "-100000000d", "--to", "9999-12-31T23:59:59Z", check=2)
        self.hub.ctl("metrics", "query", "test.wave", "--from", "0000-01-01", check=2)
        self.hub.ctl("metrics", "list", "*" * 100000, check=2)
        self.assertIn("--range", self.hub.ctl("metrics", "query", "test.wave", "--range", "10y", check=2).stderr)
        self.assertIn("no agent", self.hub.ctl("agents", "list", "zzz*").stderr)

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
