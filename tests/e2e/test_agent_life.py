# SPDX-License-Identifier: Apache-2.0
"""A life on a machine: reload, policy, doctor, support bundle; what an operator types."""

import json
import os
import pathlib
import shutil
import tarfile
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


def doctor(agent: fixture.Agent, *flags, check: int | None = None) -> dict:
    """The lines by name; of several with one name the worst."""
    done = fixture.run(AGENT, "doctor", "--hub", f"127.0.0.1:{agent.hub.port}", "--identity", agent.identity, "--state-dir", agent.state,
                       *agent.flags, *flags, "--json", check=check)
    order = ("skipped", "ok", "warning", "failed")
    lines = {}
    for line in json.loads(done.stdout)["checks"]:
        if line["name"] not in lines or order.index(line["result"]) > order.index(lines[line["name"]]["result"]):
            lines[line["name"]] = line
    return lines


class Doctor(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def expect(self, lines: dict, name: str, result: str, *words: str):
        line = lines.get(name)
        self.assertIsNotNone(line, f"no line {name} in {lines}")
        self.assertEqual(line["result"], result, line)
        for word in words:
            self.assertIn(word, line["detail"] + " " + line["remedy"])
        if result in ("warning", "failed"):
            self.assertTrue(line["remedy"], f"no remedy: {line}")

    def test_a_healthy_agent_has_nothing_to_do(self):
        with make_agent(self.hub, "healthy", "interval: 200ms\n") as agent:
            fixture.wait_until(lambda: status_of(agent).get("hub", {}).get("state") == "connected", "the stream")
            lines = doctor(agent)
            for name in ("settings", "policy", "state", "disk", "agent", "spool", "root", "renewal", "identity", "certificate", "dns", "tcp",
                         "tls", "hello", "clock"):
                self.expect(lines, name, "ok")
            text = fixture.run(AGENT, "doctor", "--hub", f"127.0.0.1:{self.hub.port}", "--identity", agent.identity, "--state-dir", agent.state,
                               check=None)
            self.assertIn(text.returncode, (0, 6), text.stdout)

    def test_each_thing_that_is_wrong_has_its_remedy(self):
        agent = make_agent(self.hub, "ill", "interval: 200ms\nspool: {metrics: {size: 1TiB}}\n")
        agent.state.mkdir(mode=0o750)
        lines = doctor(agent, check=6)
        self.expect(lines, "agent", "warning", "systemctl start")
        self.expect(lines, "disk", "warning", "spool.metrics.size")

        agent.flags += ["--policy-file", str(self.hub.home / "bad-policy.yaml")]
        (self.hub.home / "bad-policy.yaml").write_text("comands: {}\n")
        self.expect(doctor(agent, check=1), "policy", "failed", "did you mean", "reload")

        (agent.identity / "client-key.pem").chmod(0o644)
        lines = doctor(agent, check=1)
        self.expect(lines, "identity", "failed", "chmod 600")
        self.expect(lines, "hello", "skipped")
        (agent.identity / "client-key.pem").chmod(0o600)

        agent.state.chmod(0o777)
        self.expect(doctor(agent, check=1), "state", "failed", "chmod 750")
        agent.state.chmod(0o750)

        self.expect(doctor(agent, "--hub", "127.0.0.1:1", check=1), "tcp", "failed", "start the hub")
        self.expect(doctor(agent, "--hub", "no-such-host.invalid:8082", check=1), "dns", "failed", "resolver")
        self.expect(doctor(agent, "--server-name", "other.example.org", check=1), "tls", "failed")

        done = fixture.run(AGENT, "doctor", "--intervall", "1s", check=2)
        self.assertIn("did you mean", done.stderr)

    @unittest.skipUnless(os.geteuid() == 0, "only root can look as somebody else")
    def test_root_looks_as_the_agents_user_and_names_the_drop_in(self):
        agent = make_agent(self.hub, "other-user", "interval: 1s\n")
        home = fixture.scratch()
        home.chmod(0o755)
        secret = home / "secret.log"
        secret.write_text("x\n")
        secret.chmod(0o600)
        state = home / "state"
        shutil.copytree(agent.identity, state / "identity")
        state.chmod(0o750)
        for path in [state, *state.rglob("*")]:
            os.chown(path, 12345, 12345)
        (state / "identity").chmod(0o700)
        config = home / "config.yaml"
        config.write_text(f"logs: {{files: [{secret}], kmsg: true, journald: true, journalctl: /bin/true}}\n")
        agent.state, agent.identity, agent.flags = state, state / "identity", ["--config", str(config)]
        lines = doctor(agent)
        self.expect(lines, "state", "ok", "user 12345")
        self.expect(lines, "identity", "ok")
        self.expect(lines, "logs", "warning", "secret.log", "files.conf")
        self.assertTrue((fixture.ROOT / "agent/systemd/drop-ins/files.conf").exists())
        self.assertEqual({path.stat().st_uid for path in state.rglob("*")}, {12345})


class Bundle(unittest.TestCase):
    def test_it_has_what_helps_and_no_secret(self):
        with fixture.Hub() as hub:
            config = ("interval: 200ms\ncollect:\n  scrape: {targets: ['http://127.0.0.1:9/metrics?token=hunter2']}\n"
                      "  exec: {commands: ['/bin/echo --password=swordfish']}\n")
            with make_agent(hub, "bundled", config) as agent:
                fixture.wait_until(lambda: status_of(agent).get("hub", {}).get("state") == "connected", "the stream")
                out = hub.home / "bundle.tar.gz"
                made = fixture.run(AGENT, "support-bundle", "--out", out, "--log", agent.log_path, "--hub", f"127.0.0.1:{hub.port}",
                                   "--identity", agent.identity, "--state-dir", agent.state, *agent.flags)
                key = (agent.identity / "client-key.pem").read_text()
            self.assertEqual(out.stat().st_mode & 0o777, 0o600)
            with tarfile.open(out, "r:gz") as tar:
                files = {pathlib.PurePath(m.name).name: tar.extractfile(m).read().decode() for m in tar.getmembers()}
            self.assertEqual(set(files), {"README.txt", "version.txt", "host.txt", "settings.yaml", "policy.yaml", "status.json", "doctor.txt",
                                          "spool.txt", "certificates.txt", "log.txt"})
            for name in files:
                self.assertIn(name, made.stdout)
                self.assertIn(name, files["README.txt"] + "README.txt")
            everything = "".join(files.values())
            for secret in ("hunter2", "swordfish", "PRIVATE KEY", *key.splitlines()[1:-1]):
                self.assertFalse(secret in everything, secret)
            self.assertIn("127.0.0.1:9/metrics?***", files["settings.yaml"])
            self.assertIn("/bin/echo ***", files["settings.yaml"])
            self.assertEqual(json.loads(files["status.json"])["identity"]["agent_id"], "bundled")
            self.assertIn("event=started", files["log.txt"])
            self.assertIn("bundled", files["certificates.txt"])
            refused = fixture.run(AGENT, "support-bundle", "--out", out, check=1)
            self.assertIn("--out", refused.stderr)
            self.assertTrue(out.exists())


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
