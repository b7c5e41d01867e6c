# SPDX-License-Identifier: Apache-2.0
"""The real agent against the real hub: this machine's metrics, outages, footprint."""

import json
import pathlib
import signal
import socket
import time
import unittest

import fixture

EXPECTED = ("system.cpu.time", "system.cpu.load_average.1m", "system.memory.usage", "system.memory.limit", "system.paging.faults",
            "system.disk.io", "system.filesystem.usage", "system.network.io", "system.process.count", "system.uptime")


class RealAgent(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def has_samples(self, name: str, at_least: int, metric: str = "system.uptime") -> bool:
        asked = self.hub.grpcurl(
            "sentinel.query.v1.QueryService/QueryMetrics", check=None,
            data=json.dumps({"name": metric, "agents": {"ids": [name]}, "range": {"from": "-1h", "to": "now"}, "step_text": "1h",
                             "aggregation": "AGGREGATION_COUNT", "group_all": True}))
        if asked.returncode:
            return False
        answer = json.loads(asked.stdout)
        return sum(float(p["value"]) for s in answer.get("series", []) for p in s["points"]) >= at_least

    def test_this_machines_metrics_arrive_and_are_true(self):
        with fixture.Agent(self.hub, "truth") as agent:
            fixture.wait_until(lambda: self.has_samples("truth", 3), "three samples")
            names = {m["name"] for m in self.hub.ask("sentinel.query.v1.QueryService/ListMetrics",
                                                     {"agents": {"ids": ["truth"]}, "page_size": 1000})["metrics"]}
            self.assertFalse(set(EXPECTED) - names)
            limit = fixture.points(self.hub, "system.memory.limit", "truth")[-1][1]
            meminfo = dict(line.split(":") for line in pathlib.Path("/proc/meminfo").read_text().splitlines())
            self.assertEqual(limit, int(meminfo["MemTotal"].split()[0]) * 1024)
            told = self.hub.ask("sentinel.query.v1.QueryService/GetAgent", {"agent_id": "truth"})["agent"]
            self.assertTrue(told["connected"])
            self.assertIn("os.name", told["host"])
            status = json.loads(fixture.run(fixture.program("sentinel-agent"), "status", "--state-dir", agent.state, "--json").stdout)
            self.assertTrue(status)

    def test_plaintext_is_loud_and_stays_on_this_machine(self):
        with fixture.Hub(flags=("--insecure",)) as hub, fixture.Agent(hub, "unused", flags=("--insecure", "plain")) as agent:
            shown = (fixture.program("sentinelctl"), "--hub", hub.address, "--insecure", "agents", "show", "plain", "--json")
            fixture.wait_until(lambda: fixture.run(*shown, check=None).returncode == 0, "the agent under its id")
            self.assertIn("event=insecure", agent.log)
            status = fixture.run(fixture.program("sentinel-agent"), "status", "--state-dir", agent.state, check=None).stdout
            self.assertIn("INSECURE", status)
        refused = fixture.run(fixture.program("sentinel-agent"), "run", "--hub", "hub.example.org:8082", "--insecure", "plain", check=2)
        self.assertIn("this machine", refused.stderr)

    def test_it_goes_on_after_the_hub_was_away_and_loses_nothing(self):
        hub = fixture.Hub().start()
        config = hub.home / "agent.yaml"
        config.write_text("uplink:\n  reconnect_spread: 500ms\n")
        with fixture.Agent(hub, "outage", flags=("--config", str(config))) as agent:
            fixture.wait_until(lambda: json.loads(hub.ctl("agents", "list", "--json").stdout)["agents"], "the agent")
            hub.kill()
            fixture.wait_until(lambda: "hub_stream_ended" in agent.log, "the agent to notice")
            hub.start()
            fixture.wait_until(lambda: json.loads(hub.ctl("agents", "show", "outage", "--json").stdout)["connected"], "the agent to come back")
            self.assertEqual(agent.stop(), 0)
            told = json.loads(hub.ctl("agents", "show", "outage", "--json").stdout)
            self.assertEqual((told["samples_skipped"], told["batches_lost"]), (0, 0))
            self.assertEqual(len(told["runs"]), 1)
        hub.stop(expect=0)

    def test_what_does_not_fit_in_memory_is_skipped_with_a_count(self):
        hub = fixture.Hub().start()
        port = hub.port
        config = hub.home / "agent.yaml"
        config.write_text("uplink:\n  reconnect_spread: 500ms\nspool:\n  metrics:\n    size: 256KiB\n")
        agent = fixture.Agent(hub, "full", flags=("--config", str(config)), interval="100ms")
        hub.stop(expect=0)
        hub.port = port
        agent.start()
        status = agent.state / "status.json"

        def dropped():
            try:
                text = status.read_text()
            except FileNotFoundError:
                return False
            return any(isinstance(v, (int, float)) and v > 0 for k, v in flatten(json.loads(text)) if "dropped" in k)
        fixture.wait_until(dropped, "the queue to overflow")
        hub.start()
        fixture.wait_until(lambda: self.skipped(hub), "the skip to arrive")
        agent.stop()
        hub.stop(expect=0)

    def skipped(self, hub) -> bool:
        shown = hub.ctl("agents", "show", "full", "--json", check=None)
        return shown.returncode == 0 and json.loads(shown.stdout)["samples_skipped"] > 0

    def test_collect_once_prints_a_sample_without_a_hub(self):
        out = fixture.run(fixture.program("sentinel-agent"), "collect", "--once").stdout
        for name in EXPECTED:
            self.assertIn(name, out)
        self.assertTrue(json.loads(fixture.run(fixture.program("sentinel-agent"), "collect", "--once", "--json").stdout))

    def test_test_connection_names_each_step(self):
        identity = self.hub.issue("agent", "probe")
        done = fixture.run(fixture.program("sentinel-agent"), "test-connection", "--hub", f"127.0.0.1:{self.hub.port}",
                           "--identity", identity)
        for word in ("TCP", "TLS", "certificate"):
            self.assertIn(word.lower(), done.stdout.lower())
        done = fixture.run(fixture.program("sentinel-agent"), "test-connection", "--hub", "127.0.0.1:1", "--identity", identity, check=None)
        self.assertEqual(done.returncode, 5)

    def test_a_refusal_shows_its_reason_in_the_agents_log(self):
        agent = fixture.Agent(self.hub, "wrong-kind")
        agent.identity = self.hub.issue("operator", "not-an-agent")
        with agent:
            fixture.wait_until(lambda: "ROLE_MISSING" in agent.log, "the reason")

    def test_the_agent_stays_small(self):
        with fixture.Agent(self.hub, "small") as agent:
            fixture.wait_until(lambda: self.has_samples("small", 5), "five samples")
            status = pathlib.Path(f"/proc/{agent.process.pid}/status").read_text()
            resident_kb = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
            self.assertLessEqual(resident_kb, 16 * 1024)

    def test_series_that_come_and_go_take_no_memory(self):
        if fixture.is_sanitized():
            self.skipTest("AddressSanitizer keeps what was freed")
        texts = self.hub.home / "texts"
        texts.mkdir()
        config = self.hub.home / "churn.yaml"
        config.write_text(f"collect:\n  textfile:\n    directory: {texts}\n")

        def churn(until: int):
            """Other series in each file, up to that round."""
            while (rounds := status_of(agent)["rounds"]) < until:
                (texts / "new").write_text("".join(f'churn{{number="{rounds * 50 + i}"}} {i}\n' for i in range(50)))
                (texts / "new").rename(texts / "churn.prom")
                time.sleep(0.05)

        def anonymous() -> int:
            rows = pathlib.Path(f"/proc/{agent.process.pid}/smaps_rollup").read_text().splitlines()
            return 1024 * int(next(row for row in rows if row.startswith("Anonymous:")).split()[1])

        with fixture.Agent(self.hub, "churn", flags=("--config", str(config)), interval="100ms") as agent:
            fixture.wait_until(lambda: series_of(agent), "the first round")
            churn(120)
            before = anonymous()
            churn(250)
            self.assertGreater(series_of(agent), 300)
            self.assertLess(anonymous() - before, 768 * 1024)
            self.assertEqual(agent.stop(), 0)

    def test_sighup_takes_new_settings_and_refuses_bad_ones(self):
        config = self.hub.home / "reload.yaml"
        config.write_text("collect:\n  disable: []\n")
        with fixture.Agent(self.hub, "reload", flags=("--config", str(config)), interval="100ms") as agent:
            n_series = fixture.wait_until(lambda: series_of(agent), "the first round")
            config.write_text("collect:\n  disable: [network, filesystem]\n")
            agent.process.send_signal(signal.SIGHUP)
            fixture.wait_until(lambda: series_of(agent) < n_series, "the collectors to be off")
            config.write_text("collect:\n  disable: [netwrok]\n")
            agent.process.send_signal(signal.SIGHUP)
            fixture.wait_until(lambda: "reload_refused" in agent.log, "the refusal")
            self.assertIn("did you mean `network`", agent.log)
            self.assertEqual(agent.stop(), 0)
            self.assertNotIn("hub_stream_ended", agent.log)

    def test_a_stop_ends_when_the_hub_never_answers(self):
        agent = fixture.Agent(self.hub, "unheard")
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            agent.flags += ["--hub", "127.0.0.1:%d" % nobody.getsockname()[1], "--uplink-drain", "200ms"]
            agent.start()
            fixture.wait_until(lambda: series_of(agent), "the first round")
            self.assertEqual(agent.stop(), 0)
        self.assertNotIn("hub_connected", agent.log)

    def test_sigterm_sends_what_is_queued(self):
        agent = fixture.Agent(self.hub, "leaving").start()
        fixture.wait_until(lambda: self.has_samples("leaving", 2), "two samples")
        self.assertEqual(agent.stop(), 0)


def status_of(agent: fixture.Agent) -> dict:
    return json.loads((agent.state / "status.json").read_text())["collect"]


def series_of(agent: fixture.Agent) -> int:
    """How many series the agent samples; 0 before its first round."""
    try:
        return status_of(agent)["series"]
    except FileNotFoundError:
        return 0


def flatten(value, prefix=""):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flatten(inner, f"{prefix}.{key}")
    else:
        yield prefix, value


if __name__ == "__main__":
    fixture.main()
