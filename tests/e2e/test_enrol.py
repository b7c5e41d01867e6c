# SPDX-License-Identifier: Apache-2.0
"""A machine gets its identity and keeps it: tokens, renewals, ends, power cuts, clocks. Real programs on both sides."""

import datetime
import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import time
import unittest

import fixture

PROGRAM = "sentinel-agent"
ENROL_POINTS = ("identity_request_written", "identity_answered", "identity_answer_written", "identity_commit_begun",
                "identity_key_written", "identity_chain_written", "identity_committed")
RENEW_POINTS = ("identity_request_written", "identity_answered", "identity_answer_written", "identity_candidate", "identity_accepted",
                "identity_commit_begun", "identity_key_written", "identity_chain_written", "identity_committed")


def token(hub: fixture.Hub, *flags) -> str:
    return json.loads(hub.ctl("tokens", "create", "--json", *flags).stdout)["enrolment"]


class Machine:
    """A machine without an identity, and what its operator types."""

    def __init__(self, hub: fixture.Hub, name: str, build: pathlib.Path = fixture.BUILD):
        self.hub, self.name, self.build = hub, name, build
        self.state = hub.home / f"machine-{name}"
        self.identity = self.state / "identity"
        self.log_path = hub.home / f"machine-{name}.log"
        self.process = None

    def enroll(self, text: str, *flags, check: int | None = 0, env: dict | None = None):
        return fixture.run(fixture.program(PROGRAM, self.build), "enroll", "--token-file", "-", "--hub", f"127.0.0.1:{self.hub.port}",
                           "--id", self.name, "--state-dir", self.state, "--give-up", "0s", *flags, stdin=text + "\n", check=check,
                           env=env)

    def start(self, *flags, env: dict | None = None):
        with open(self.log_path, "a") as log:
            self.process = fixture.start(
                [fixture.program(PROGRAM, self.build), "run", "--hub", f"127.0.0.1:{self.hub.port}", "--state-dir", str(self.state),
                 "--interval", "500ms", "--uplink-backoff", "200ms", "--uplink-max-backoff", "1s", "--uplink-reconnect-spread", "100ms",
                 *flags], stderr=log, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})
        return self

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(fixture.PATIENCE)
        self.process = None

    @property
    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    def status(self) -> dict:
        done = fixture.run(fixture.program(PROGRAM), "status", "--state-dir", self.state, "--json", check=None)
        return json.loads(done.stdout) if done.stdout else {}

    def state_is(self, *states) -> bool:
        return self.status().get("identity", {}).get("state") in states

    def streams(self) -> bool:
        return self.status().get("hub", {}).get("state") == "connected" and self.status()["spool"]["acknowledged_samples"] > 0

    def wait_streaming(self):
        fixture.wait_until(self.streams, f"{self.name} to stream; its log:\n{self.log[-2000:]}")

    def serial(self) -> str:
        done = fixture.run("openssl", "x509", "-noout", "-serial", "-in", self.identity / "client-cert.pem")
        return done.stdout.strip().split("=")[1].lower().lstrip("0")

    def seconds_left(self) -> float:
        done = fixture.run("openssl", "x509", "-noout", "-enddate", "-in", self.identity / "client-cert.pem")
        end = datetime.datetime.strptime(done.stdout.strip().split("=")[1], "%b %d %H:%M:%S %Y %Z").replace(tzinfo=datetime.timezone.utc)
        return end.timestamp() - time.time()

    def leftovers(self) -> list[str]:
        return [name for name in ("enrolment", "request", "candidate", "client-key.next.pem") if (self.identity / name).exists()]


def certificates(hub: fixture.Hub, name: str) -> dict[str, str]:
    """serial -> state, as the registry has them."""
    listed = json.loads(hub.ctl("certs", "list", "--json").stdout)["certificates"]
    return {c["serial"].lower().lstrip("0"): c["state"].lower() for c in listed if c["name"] == name}


class Enrolment(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def test_three_commands_make_a_streaming_agent_and_one_more_a_second(self):
        """init, run, enroll; on a second machine enroll alone."""
        state = fixture.scratch() / "hub"
        printed = fixture.run(fixture.program("sentinel-hub"), "init", "--state-dir", state, "--name", "hub.example.org").stdout
        text = re.search(r"^sentinel1/hub\.example\.org:8082/\S+$", printed, re.M).group()
        with fixture.Hub(state=state) as hub:
            for name in ("one", "two"):
                machine = Machine(hub, name)
                machine.enroll(text)
                with machine:
                    machine.wait_streaming()
        quiet = fixture.run(fixture.program("sentinel-hub"), "init", "--state-dir", fixture.scratch() / "hub", "--no-token").stdout
        self.assertNotIn("sentinel1/", quiet)

    def test_a_token_is_good_for_as_many_machines_as_it_says(self):
        text = token(self.hub, "--uses", "2")
        for name in ("first", "second"):
            machine = Machine(self.hub, name)
            done = machine.enroll(text)
            self.assertIn(f"enrolled as {name}", done.stdout)
            self.assertIn("sentinel-agent run", done.stdout)
            self.assertNotIn(text, done.stdout + done.stderr)
            with machine:
                machine.wait_streaming()
                identity = machine.status()["identity"]
                self.assertEqual((identity["state"], identity["agent_id"]), ("ok", name))
                self.assertGreater(identity["percent_left"], 95)
                shown = fixture.run(fixture.program(PROGRAM), "status", "--state-dir", machine.state).stdout
                self.assertRegex(shown, r"identity +ok as " + name)
            fixture.wait_until(lambda: certificates(self.hub, name) == {machine.serial(): "active"}, "one active certificate")
            self.assertEqual(machine.leftovers(), [])
        self.assertEqual(Machine(self.hub, "third").enroll(text, check=4).stdout, "")

    def test_a_refusal_names_its_reason_and_the_next_command(self):
        text = token(self.hub)
        wrong = re.sub(r"/[a-z2-7]{32}/", "/" + "a" * 32 + "/", text)
        self.assertIn("TOKEN_UNKNOWN", Machine(self.hub, "guesser").enroll(wrong, check=4).stderr)
        revoked = token(self.hub)
        self.hub.ctl("tokens", "revoke", revoked.split("/")[2], "--yes")
        self.assertIn("TOKEN_REVOKED", Machine(self.hub, "late").enroll(revoked, check=4).stderr)
        machine = Machine(self.hub, "keeper")
        machine.enroll(text)
        before = machine.serial()
        again = machine.enroll(text, check=4)
        self.assertIn("TOKEN_USED", again.stderr)
        self.assertIn("sentinelctl tokens create", again.stderr)
        self.assertEqual(machine.serial(), before)
        told = json.loads(machine.enroll(text, "--json", check=4).stdout)
        self.assertEqual((told["enrolled"], told["reason"]), (False, "TOKEN_USED"))

    def test_hundreds_of_machines_at_once(self):
        """Each is a process of its own; none is told more than to come again later."""
        many = 300
        text = token(self.hub, "--uses", str(many), "--id", "crowd-*")
        processes = []
        for i in range(many):
            processes.append(fixture.start(
                [fixture.program(PROGRAM), "enroll", "--token-file", "-", "--hub", f"127.0.0.1:{self.hub.port}", "--id", f"crowd-{i}",
                 "--state-dir", str(self.hub.home / f"crowd-{i}")],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
            processes[-1].stdin.write(text + "\n")
            processes[-1].stdin.close()
        for process in processes:
            code = process.wait(3 * fixture.PATIENCE)
            self.assertEqual(code, 0, process.stderr.read())
            process.stderr.close()
        listed = json.loads(self.hub.ctl("certs", "list", "crowd-*", "--json").stdout)["certificates"]
        self.assertEqual(len({c["name"] for c in listed}), many)
        self.assertEqual(len({c["serial"] for c in listed}), many)
        self.assertIn("TOKEN_USED", Machine(self.hub, "crowd-x").enroll(text, check=4).stderr)

    def test_a_hub_that_the_string_does_not_name_is_told_nothing(self):
        text = token(self.hub)
        other = text[:-64] + ("0" if text[-64] != "0" else "1") + text[-63:]
        self.assertIn("PIN_MISMATCH", Machine(self.hub, "misled").enroll(other, check=4).stderr)
        Machine(self.hub, "misled").enroll(text)

    def test_the_string_is_not_taken_from_the_command_line_nor_shown_by_the_prompt(self):
        text = token(self.hub)
        done = fixture.run(fixture.program(PROGRAM), "enroll", text, "--state-dir", self.hub.home / "argv", check=2)
        self.assertIn("--token-file", done.stderr)
        self.assertNotIn(text, done.stderr)
        fixture.run(fixture.program(PROGRAM), "enroll", f"--token={text}", "--state-dir", self.hub.home / "argv", check=2)

        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(fixture.program(PROGRAM), ["sentinel-agent", "enroll", "--hub", f"127.0.0.1:{self.hub.port}", "--id", "typist",
                                                "--state-dir", str(self.hub.home / "typist")])
        shown = self.read_until(terminal, b": ")
        os.write(terminal, text.encode() + b"\n")
        shown += self.read_until(terminal, None)
        os.close(terminal)  # hangs up, whatever it is at
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0, shown)
        self.assertIn(b"enrolled as typist", shown)
        self.assertNotIn(text.split("/")[3].encode(), shown)

    @staticmethod
    def read_until(terminal: int, end: bytes | None) -> bytes:
        shown, deadline = b"", time.monotonic() + fixture.PATIENCE
        while time.monotonic() < deadline and (end is None or not shown.endswith(end)):
            if not select.select([terminal], [], [], 1)[0]:
                continue
            try:
                more = os.read(terminal, 4096)
            except OSError:  # the other side is gone
                break
            if not more:
                break
            shown += more
        return shown

    def test_a_machine_without_an_identity_is_told_what_to_type(self):
        done = fixture.run(fixture.program(PROGRAM), "run", "--hub", f"127.0.0.1:{self.hub.port}", "--state-dir", self.hub.home / "bare",
                           check=4)
        self.assertIn("sentinel-agent enroll", done.stderr)
        self.assertIn("sentinel-agent enroll", fixture.run(fixture.program(PROGRAM), "run", "--state-dir", self.hub.home / "bare",
                                                           check=2).stderr)

    def test_the_hub_that_enrolled_it_is_remembered(self):
        machine = Machine(self.hub, "remembers")
        machine.enroll(token(self.hub))
        checked = fixture.run(fixture.program(PROGRAM), "print-config", "--state-dir", machine.state).stdout
        self.assertIn(f"127.0.0.1:{self.hub.port}", checked)

    def test_what_is_taken_away_is_said_and_given_back(self):
        machine = Machine(self.hub, "outcast")
        machine.enroll(token(self.hub))
        with machine:
            machine.wait_streaming()
            self.hub.ctl("agents", "revoke", "outcast", "--yes")
            fixture.wait_until(lambda: machine.state_is("revoked"), "the status to say revoked")
            self.assertIn("readmit", fixture.run(fixture.program(PROGRAM), "status", "--state-dir", machine.state, check=None).stdout)
            self.hub.ctl("agents", "readmit", "outcast", "--yes")
            fixture.wait_until(lambda: machine.state_is("ok", "renewing") and machine.streams(), "it to stream again")

    def test_a_new_token_beside_the_running_agent_is_taken_up(self):
        machine = Machine(self.hub, "again")
        machine.enroll(token(self.hub))
        with machine:
            machine.wait_streaming()
            before = machine.serial()
            machine.enroll(token(self.hub, "--id", "again", "--replace"))
            fixture.wait_until(lambda: machine.status()["identity"]["serial"].lower().lstrip("0") not in ("", before) and machine.streams(),
                               "the new one in use")
            fixture.wait_until(lambda: certificates(self.hub, "again").get(machine.serial()) == "active", "it to be active")
            self.assertEqual(list(certificates(self.hub, "again").values()).count("active"), 1)


class Clocks(unittest.TestCase):
    def test_a_clock_two_days_behind_is_named_and_it_recovers_alone(self):
        with fixture.Hub() as hub:
            machine, shift = Machine(hub, "sundial"), hub.home / "shift"
            machine.enroll(token(hub))
            shift.write_text(str(-2 * 86400))
            machine.start(env={"LD_PRELOAD": str(fixture.BUILD / "tests" / "power" / "clock_shift.so"), "SENTINEL_CLOCK_SHIFT": str(shift)})
            fixture.wait_until(lambda: (machine.status().get("hub", {}).get("last_error") or {}).get("reason")
                               == "HUB_CERTIFICATE_NOT_YET_VALID", "the handshake to be refused on our side")
            status = machine.status()
            self.assertEqual(status["identity"]["state"], "not-yet-valid")
            self.assertIn("at least 1d23h", status["identity"]["problem"])
            rounds = status["collect"]["rounds"]
            fixture.wait_until(lambda: machine.status()["collect"]["rounds"] > rounds + 2, "collection to go on")
            shift.write_text("0")
            machine.wait_streaming()
            fixture.wait_until(lambda: machine.state_is("ok"), "the identity to be well")
            # From now on it knows the hub's clock: a clock that is set wrong is named with its offset.
            shift.write_text(str(-2 * 86400))
            fixture.wait_until(lambda: (machine.status()["identity"]["clock_offset_s"] or 0) > 170000, "the offset")
            self.assertIn("behind the hub's", fixture.run(fixture.program(PROGRAM), "status", "--state-dir", machine.state, check=None).stdout)
            shift.write_text("0")
            machine.stop()


class Renewal(unittest.TestCase):
    """Certificates that live for 20 s: renewed at 7 to 15 s."""

    LIFE = ("--identity-agent-life", "20s")

    def acknowledged(self, machine: Machine) -> int:
        return machine.status().get("spool", {}).get("acknowledged_samples", 0)

    def check_registry(self, hub: fixture.Hub, machine: Machine):
        fixture.wait_until(lambda: (lambda all: list(all.values()).count("active") == 1 and all.get(machine.serial()) == "active")
                           (certificates(hub, machine.name)), f"one active certificate: {certificates(hub, machine.name)}")

    def test_it_renews_itself_and_streams_on(self):
        with fixture.Hub(flags=self.LIFE) as hub:
            machine = Machine(hub, "evergreen")
            machine.enroll(token(hub))
            with machine:
                machine.wait_streaming()
                serials = {machine.serial()}
                while len(serials) < 4:
                    before = len(serials)
                    fixture.wait_until(lambda: serials.add(machine.serial()) or len(serials) > before, "a renewal")
                self.check_registry(hub, machine)
                before = self.acknowledged(machine)
                fixture.wait_until(lambda: machine.streams() and self.acknowledged(machine) > before, "samples after the renewal")
                status = machine.status()
                self.assertEqual(status["spool"]["dropped_samples"], 0)
            for word in ("CERTIFICATE_", "LINEAGE", "gap"):
                self.assertNotIn(word, machine.log)
            self.assertEqual(machine.leftovers(), [])

    def test_what_expired_while_it_was_away_is_renewed_within_the_grace(self):
        with fixture.Hub(flags=self.LIFE) as hub:
            machine = Machine(hub, "sleeper")
            machine.enroll(token(hub))
            before = machine.serial()
            fixture.wait_until(lambda: machine.seconds_left() < -1, "its end")
            with machine:
                machine.wait_streaming()
                self.assertNotEqual(machine.serial(), before)
                self.check_registry(hub, machine)

    def test_what_expired_by_the_hubs_clock_alone_is_renewed_too(self):
        with fixture.Hub(flags=("--identity-agent-life", "10s")) as hub:
            machine, shift = Machine(hub, "latecomer"), hub.home / "shift"
            machine.enroll(token(hub))
            fixture.wait_until(lambda: machine.seconds_left() < -1, "its end")
            before = machine.serial()
            shift.write_text("-100")
            machine.start(env={"LD_PRELOAD": str(fixture.BUILD / "tests" / "power" / "clock_shift.so"), "SENTINEL_CLOCK_SHIFT": str(shift)})
            fixture.wait_until(lambda: machine.serial() != before, "a new certificate")
            self.check_registry(hub, machine)
            machine.stop()

    def test_after_the_grace_somebody_readmits_it_and_it_goes_on_alone(self):
        # Readmitted, it has the grace once more: longer than the agent's pace of asking.
        with fixture.Hub(flags=("--identity-agent-life", "10s", "--identity-grace", "40s")) as hub:
            machine = Machine(hub, "stranded")
            machine.enroll(token(hub))
            fixture.wait_until(lambda: machine.seconds_left() < -41, "the grace to end", 2 * fixture.PATIENCE)
            with machine:
                fixture.wait_until(lambda: machine.state_is("needs-token"), "the status to say so")
                rounds = machine.status()["collect"]["rounds"]
                fixture.wait_until(lambda: machine.status()["collect"]["rounds"] > rounds + 1, "collection to go on")
                hub.ctl("agents", "readmit", "stranded", "--yes")
                machine.wait_streaming()


class PowerCuts(unittest.TestCase):
    def setUp(self):
        if b"faultpoint:" not in pathlib.Path(fixture.program(PROGRAM, fixture.FAULTS)).read_bytes():
            self.skipTest("SENTINEL_FAULTS names no build with fault points")

    def test_enrolment_killed_at_each_step_ends_with_one_identity(self):
        with fixture.Hub() as hub:
            for point in ENROL_POINTS:
                with self.subTest(point=point):
                    name = point.replace("identity_", "e-").replace("_", "-")
                    machine, text = Machine(hub, name, fixture.FAULTS), token(hub)
                    machine.enroll(text, check=-signal.SIGKILL, env={"SENTINEL_FAULT": point})
                    # Either it is there, or the same string gets it.
                    if not (machine.identity / "client-cert.pem").exists():
                        machine.enroll(text)
                    with machine:
                        machine.wait_streaming()
                    self.assertEqual(machine.leftovers(), [])
                    fixture.wait_until(lambda: certificates(hub, name) == {machine.serial(): "active"}, "one active certificate")

    def test_renewal_killed_at_each_step_ends_with_one_identity(self):
        with fixture.Hub(flags=("--identity-agent-life", "12s")) as hub:
            for point in RENEW_POINTS:
                with self.subTest(point=point):
                    name = point.replace("identity_", "r-").replace("_", "-")
                    machine = Machine(hub, name, fixture.FAULTS)
                    machine.enroll(token(hub))
                    before = machine.serial()
                    machine.start(env={"SENTINEL_FAULT": point})
                    self.assertEqual(machine.process.wait(fixture.PATIENCE), -signal.SIGKILL, machine.log[-2000:])
                    machine.process = None
                    with machine:
                        fixture.wait_until(lambda: machine.serial() != before and machine.streams(), "the renewed one in use")
                        fixture.wait_until(lambda: list(certificates(hub, name).values()).count("active") == 1
                                           and certificates(hub, name).get(machine.serial()) == "active", "one active certificate")
                    self.assertEqual([left for left in machine.leftovers() if left != "request"], [])
                    self.assertNotIn("LINEAGE_FORKED", machine.log)

    def test_the_release_has_no_fault_points(self):
        self.assertNotIn(b"faultpoint:identity", pathlib.Path(fixture.program(PROGRAM)).read_bytes())


if __name__ == "__main__":
    unittest.main()
