# SPDX-License-Identifier: Apache-2.0
"""A life on a machine: reload, policy, doctor, support bundle; what an operator types."""

import json
import os
import signal
import unittest

import fixture

AGENT = fixture.program("sentinel-agent")


def status_of(agent: fixture.Agent) -> dict:
    try:
        return json.loads((agent.state / "status.json").read_text())
    except FileNotFoundError:
        return {}


def make_agent(hub: fixture.Hub, name: str, config: str, *flags) -> fixture.Agent:
    """An agent whose settings are in a file."""
    agent = fixture.Agent(hub, name)
    agent.config = hub.home / f"{name}.yaml"
    agent.config.write_text(config)
    agent.flags = ["--config", str(agent.config), *map(str, flags)]
    return agent


class Life(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def test_reload_waits_for_the_answer(self):
        with make_agent(self.hub, "answers", "interval: 5s\n") as agent:
            fixture.wait_until(lambda: status_of(agent), "the first round")
            agent.config.write_text("interval: 6s\n")
            told = json.loads(fixture.run(AGENT, "reload", "--state-dir", agent.state, "--json").stdout)
            self.assertTrue(told["reloaded"])
            self.assertEqual(told["settings_sha256"], status_of(agent)["settings_sha256"])
            self.assertEqual(status_of(agent)["interval_s"], 6)
            digest = told["settings_sha256"]

            agent.config.write_text("intervall: 7s\n")
            refused = fixture.run(AGENT, "reload", "--state-dir", agent.state, check=1)
            self.assertIn("did you mean `interval`", refused.stderr)
            self.assertEqual(status_of(agent)["settings_sha256"], digest)
            self.assertIn("REFUSED", fixture.run(AGENT, "status", "--state-dir", agent.state, check=None).stdout)

            agent.config.write_text("interval: 6s\ntls: {min_version: '1.3'}\n")
            told = fixture.run(AGENT, "reload", "--state-dir", agent.state).stdout
            self.assertIn("restart_needed=tls.min_version", told)

    def test_reload_says_when_nobody_runs(self):
        self.assertIn("no agent runs", fixture.run(AGENT, "reload", "--state-dir", fixture.scratch(), check=3).stderr)
        with make_agent(self.hub, "gone", "interval: 1s\n") as agent:
            fixture.wait_until(lambda: status_of(agent), "the first round")
            agent.kill()
            self.assertIn("no agent runs", fixture.run(AGENT, "reload", "--state-dir", agent.state, check=5).stderr)

    def test_a_pid_of_somebody_else_is_not_signalled(self):
        state = fixture.scratch()
        sleeper = fixture.start(["sleep", "60"])
        (state / "status.json").write_text(json.dumps({"pid": sleeper.pid}))
        fixture.run(AGENT, "reload", "--state-dir", state, check=5)
        self.assertIsNone(sleeper.poll())
        sleeper.kill()
        sleeper.wait()

    def test_reloads_under_load_lose_nothing(self):
        """What the agent says it produced is what the hub says it stored, however often it was told to reload meanwhile."""
        configs = ("interval: 100ms\n", "interval: 150ms\ncollect: {per_cpu: true}\n",
                   "interval: 100ms\ncollect: {disable: [network, disk]}\nspool: {metrics: {size: 64MiB}}\n", "interval: nonsense\n")
        with make_agent(self.hub, "busy", configs[0]) as agent:
            fixture.wait_until(lambda: status_of(agent), "the first round")
            for i in range(60):
                agent.config.write_text(configs[i % len(configs)])
                fixture.run(AGENT, "reload", "--state-dir", agent.state, check=1 if i % len(configs) == 3 else 0)
                rounds = status_of(agent)["collect"]["rounds"]
                fixture.wait_until(lambda: status_of(agent)["collect"]["rounds"] > rounds, "a round between reloads")
            self.assertEqual(status_of(agent)["reload"]["count"], 60)
            self.assertEqual(agent.stop(), 0)
        ledger = status_of(agent)["spool"]["metrics"]
        self.assertGreater(ledger["produced"], 1000)
        self.assertEqual((ledger["queued"], ledger["dropped"]), (0, 0))
        self.assertEqual(ledger["acknowledged"], ledger["produced"])
        told = json.loads(self.hub.ctl("agents", "show", "busy", "--json").stdout)
        self.assertEqual((told["samples_skipped"], told["batches_lost"]), (0, 0))
        self.assertEqual(stored(self.hub, "busy"), ledger["produced"])

    def test_a_policy_is_shown_and_read_anew(self):
        policy = self.hub.home / "policy.yaml"
        agent = make_agent(self.hub, "ruled", "interval: 5s\n", "--policy-file", policy)
        with agent:
            fixture.wait_until(lambda: status_of(agent), "the first round")
            self.assertEqual(status_of(agent)["policy"]["state"], "defaults")
            policy.write_text("commands: {allow: true, programs: [/usr/bin/uptime]}\n")
            policy.chmod(0o644)
            self.assertIn("policy=loaded", fixture.run(AGENT, "reload", "--state-dir", agent.state).stdout)
            shown = json.loads(fixture.run(AGENT, "policy", "--policy-file", policy, "--json").stdout)
            self.assertEqual(shown["rules"]["commands.programs"], ["/usr/bin/uptime"])
            self.assertEqual(shown["sha256"], status_of(agent)["policy"]["sha256"])
            self.assertIn("may run: /usr/bin/uptime", fixture.run(AGENT, "policy", "--policy-file", policy).stdout)

            policy.chmod(0o666)
            self.assertIn("policy=closed", fixture.run(AGENT, "reload", "--state-dir", agent.state).stdout)
            self.assertIn("chmod go-w", status_of(agent)["policy"]["problem"])
            self.assertIn("event=policy_closed", agent.log)
            fixture.run(AGENT, "policy", "--policy-file", policy, check=1)

            # What it prints is a file to begin with.
            printed = fixture.run(AGENT, "policy", "--policy-file", self.hub.home / "none.yaml", "--yaml").stdout
            policy.write_text(printed)
            policy.chmod(0o600)
            self.assertIn("policy=loaded", fixture.run(AGENT, "reload", "--state-dir", agent.state).stdout)


def stored(hub: fixture.Hub, agent: str) -> int:
    """How many samples the hub has of an agent, series by series."""
    names = [m["name"] for m in hub.ask("sentinel.query.v1.QueryService/ListMetrics",
                                        {"agents": {"ids": [agent]}, "page_size": 1000})["metrics"]]
    total = 0
    for name in names:
        answer = hub.ask("sentinel.query.v1.QueryService/QueryMetrics",
                         {"name": name, "agents": {"ids": [agent]}, "range": {"from": "-1h", "to": "now"}, "step_text": "1h",
                          "aggregation": "AGGREGATION_COUNT", "group_all": True})
        total += sum(int(float(p["value"])) for s in answer.get("series", []) for p in s["points"])
    return total


if __name__ == "__main__":
    fixture.main()
