# SPDX-License-Identifier: Apache-2.0
"""An attacker's afternoon: what somebody tries who has the network, a token's id, or what was stolen from a machine. Each attempt is
refused with its reason, changes nothing for the honest, and is in the audit."""

import hashlib
import hmac
import base64
import json
import os
import queue
import resource
import shutil
import socket
import time
import unittest

import enrolment
import fixture
from enrolment import Token, chain_of, csr, enrol, enrollment, refused, sha256_of
from fixture import PATIENCE, batch, gauge, now_us
from test_enrol import Machine, certificates, token

HALF_A_HELLO = bytes([0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]) + b"half"


def events(hub: fixture.Hub, *flags) -> list[dict]:
    return json.loads(hub.ctl("audit", "search", "--limit", "1000", "--json", *flags).stdout)["entries"]


class LateCall:
    """A call of RenewExpired: the hub's nonce has come."""

    def __init__(self, hub: fixture.Hub):
        self.outgoing: queue.Queue = queue.Queue()
        self.channel = hub.channel()
        self.call = enrollment(hub, self.channel).RenewExpired(iter(self.outgoing.get, None), timeout=PATIENCE)
        self.nonce = next(self.call).nonce

    def ask(self, chain, request: bytes, signature: bytes):
        self.outgoing.put(fixture.stubs().enrollment.RenewExpiredRequest(chain=chain, csr=request, signature=signature))
        try:
            return next(self.call)
        finally:
            self.outgoing.put(None)

    def sign(self, key, request: bytes, nonce: bytes | None = None) -> bytes:
        return enrolment.sign(key, b"sentinel-renew-expired-1\0" + (nonce or self.nonce) + hashlib.sha256(request).digest())


class Afternoon(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def stream(self, identity, **hello) -> fixture.Stream:
        return fixture.Stream(self.hub, identity).hello(os.urandom(16), **hello)

    def renew(self, identity, subject="/CN=whatever", key=None):
        """As whoever has the key: another certificate."""
        made, der = csr(subject, key)
        with self.hub.channel(identity) as channel:
            answer = enrollment(self.hub, channel).Renew(fixture.stubs().enrollment.RenewRequest(csr=der), timeout=PATIENCE)
        return enrolment.save(made, answer.chain, answer.roots)

    # ---- certificates ----

    def test_a_request_for_another_id_gets_ones_own(self):
        enrol(self.hub, Token(self.hub), "victim")
        attacker = enrol(self.hub, Token(self.hub), "attacker")
        self.stream(attacker).welcome()
        renewed = self.renew(attacker, "/CN=victim/OU=operators/O=Sentinel")
        self.assertEqual(enrolment.name_of(renewed), "attacker")
        text = fixture.run("openssl", "x509", "-in", renewed / "client-cert.pem", "-noout", "-ext", "subjectAltName").stdout
        self.assertIn("/agent/attacker", text)
        self.assertNotIn("victim", text)
        # By a token: the name is taken, and it gets one beside it; a token bound to another id refuses it.
        other = enrol(self.hub, Token(self.hub), "victim")
        self.assertRegex(enrolment.name_of(other), r"^victim-[a-z2-7]{4}$")
        self.assertEqual(refused(enrol, self.hub, Token(self.hub, "--id", "mine"), "victim")["reason"], "NAME_NOT_ALLOWED")

    def test_another_ca_with_the_same_names(self):
        import grpc
        victim = enrol(self.hub, Token(self.hub), "same-name")
        live = self.stream(victim)
        live.welcome()
        theirs = fixture.Hub().issue("agent", "same-name")
        with self.hub.channel(theirs) as channel, self.assertRaises(grpc.RpcError) as failed:
            enrollment(self.hub, channel).Renew(fixture.stubs().enrollment.RenewRequest(csr=csr()[1]), timeout=5)
        self.assertIn(failed.exception.code(), (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED))
        _, der = csr()
        late = LateCall(self.hub)
        told = refused(late.ask, chain_of(theirs), der, late.sign(theirs / "client-key.pem", der))
        self.assertEqual((told["code"], told["reason"]), ("UNAUTHENTICATED", "CHAIN_UNTRUSTED"))
        # One that our own CA signed and the registry does not know: who stole the CA's key is nobody yet.
        forged = fixture.scratch()
        fixture.sign(self.hub, "agents", forged, "same-name", 2, "clientAuth")
        forged.chmod(0o700)
        self.assertEqual(self.stream(forged).error()["reason"], "CERTIFICATE_UNKNOWN")
        live.send(batch=batch(1, [gauge(1, "test.same")], [(1, [1])], [(now_us(), 1, [1.0])]))
        live.ack(1)

    def test_what_a_stolen_certificate_had_made_goes_with_it(self):
        stolen = enrol(self.hub, Token(self.hub), "stolen-1")
        self.stream(stolen).welcome()
        held_back = self.renew(stolen)
        self.hub.ctl("certs", "revoke", sha256_of(stolen), "--reason", "stolen")
        self.assertEqual(self.stream(held_back).error()["reason"], "CERTIFICATE_REVOKED")
        self.assertEqual(set(certificates(self.hub, "stolen-1").values()), {"revoked"})

    def test_oversized_requests_and_weak_keys(self):
        work = fixture.scratch()
        fixture.run("openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", work / "weak.pem")
        _, weak = csr(key=work / "weak.pem")
        attempts = {"a weak key": weak, "bytes behind it": csr()[1] + os.urandom(100_000), "nothing but bytes": os.urandom(700_000),
                    "a length that lies": b"\x30\x84\x7f\xff\xff\xff" + os.urandom(1000), "deep": b"\x30\x80" * 100_000}
        for what, request in attempts.items():
            told = refused(enrol, self.hub, Token(self.hub), "big", request=request)
            self.assertEqual((told["code"], told["reason"], told["field"]), ("INVALID_ARGUMENT", "CSR_INVALID", "csr"), what)
            told = refused(LateCall(self.hub).ask, [request] * 4, request, os.urandom(72))
            self.assertIn(told["reason"], ("CHAIN_UNTRUSTED", "CSR_INVALID"), what)
        for size in (5 << 20, 64 << 20):
            self.assertEqual(refused(enrol, self.hub, Token(self.hub), "big", request=b"\0" * size,
                                     channel=self.hub.channel())["code"], "RESOURCE_EXHAUSTED")
        told = refused(LateCall(self.hub).ask, [b"x"] * 5, b"", b"y")
        self.assertEqual((told["code"], told["field"]), ("INVALID_ARGUMENT", "chain"))
        self.assertEqual(self.hub.ask("sentinel.admin.v1.AdminService/GetStatus")["state"], "SERVING")

    # ---- what is an agent's ----

    def test_an_agent_gets_nothing_that_is_an_operators(self):
        s = fixture.stubs()
        identity = enrol(self.hub, Token(self.hub), "curious")
        tricks = [(), (("sentinel-agent", "victim"),), (("authorization", "Bearer aaaaaaaa." + "a" * 32),),
                  (("x-forwarded-for", "127.0.0.1"), ("x-ssl-client-cn", "admin")), (("sentinel-role", "admin"),)]
        with self.hub.channel(identity) as channel:
            admin = s.admin_grpc.AdminServiceStub(channel)
            for metadata in tricks:
                for act, request in ((admin.CreateToken, s.admin.CreateTokenRequest()), (admin.GetStatus, s.admin.GetStatusRequest()),
                                     (admin.ChangeAgent, s.admin.ChangeAgentRequest(agent_id="victim", change=2))):
                    told = refused(act, request, metadata=metadata, timeout=PATIENCE)
                    self.assertEqual((told["code"], told["reason"]), ("PERMISSION_DENIED", "ROLE_MISSING"), metadata)
        fixture.wait_until(lambda: [e for e in events(self.hub, "--event", "authorisation.denied") if e["actor"] == "agent/curious"],
                           "the attempts in the audit")

    def test_a_name_in_a_header_is_not_whose_stream_it_is(self):
        s = fixture.stubs()
        identity = enrol(self.hub, Token(self.hub), "header-trick")
        outgoing: queue.Queue = queue.Queue()
        with self.hub.channel(identity) as channel:
            call = s.telemetry_grpc.TelemetryServiceStub(channel).StreamMetrics(
                iter(outgoing.get, None), metadata=(("sentinel-agent", "somebody-else"),), timeout=PATIENCE)
            outgoing.put(s.telemetry.StreamMetricsRequest(hello=s.telemetry.StreamHello(
                spool_id=os.urandom(16), instance=os.urandom(16), first_sequence=1, time_unix_us=now_us(), agent_version="x")))
            self.assertTrue(next(call).HasField("welcome"))
            self.hub.ctl("agents", "show", "somebody-else", check=3)
            self.assertTrue(json.loads(self.hub.ctl("agents", "show", "header-trick", "--json").stdout)["connected"])
            outgoing.put(None)

    def test_paths_that_are_nearly_a_method(self):
        import grpc
        identity = enrol(self.hub, Token(self.hub), "pathfinder")
        service, method = "sentinel.admin.v1.AdminService", "GetStatus"
        paths = [f"//{service}/{method}", f"/{service}/{method}/", f"/{service}//{method}", f"/{service}/{method}?x=1",
                 f"/{service}/{method}%00", f"/{service.lower()}/{method}", f"/{service}/{method.lower()}",
                 f"/sentinel.enrollment.v1.EnrollmentService/../{service}/{method}", f"/grpc.health.v1.Health/Check/../../{service}/{method}",
                 f"/{service}/", "/", f"/{service}/{method}" + "x" * 4000]
        for who in (None, identity, self.hub.admin):
            with self.hub.channel(who) as channel:
                for path in paths:
                    with self.assertRaises(grpc.RpcError) as failed:
                        channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)(b"", timeout=PATIENCE)
                    self.assertEqual(failed.exception.code(), grpc.StatusCode.UNIMPLEMENTED, path)

    # ---- signed requests ----

    def test_a_replayed_signature_and_one_for_something_else(self):
        s = fixture.stubs()
        told = json.loads(self.hub.ctl("bearers", "create", "signer", "--role", "admin", "--must-sign", "--json").stdout)
        prefix = "/sentinel.admin.v1.AdminService/"

        def signature(path: str, nonce: str, at: float = 0) -> tuple:
            seconds = int(time.time() + at)
            text = "\n".join(["v1", str(seconds), nonce, "POST", path, hashlib.sha256(b"").hexdigest()])
            mac = hmac.new(bytes.fromhex(told["hmac_key"]), text.encode(), hashlib.sha256).digest()
            return ("x-signature", f"v1.{seconds}.{nonce}.{base64.b64encode(mac).decode()}")
        bearer = ("authorization", "Bearer " + told["bearer"])
        with self.hub.channel() as channel:
            admin = s.admin_grpc.AdminServiceStub(channel)
            once = signature(prefix + "GetStatus", "once-and-no-more")
            admin.GetStatus(s.admin.GetStatusRequest(), metadata=(bearer, once), timeout=PATIENCE)
            attempts = {
                "replayed": once,
                "replayed with other base64": (once[0], once[1] + "="),
                "of another method": signature(prefix + "ListTokens", "another-method"),
                "of another service": signature("/sentinel.query.v1.QueryService/GetStatus", "another-service"),
                "of an hour ago": signature(prefix + "GetStatus", "an-hour-ago", -3600),
                "of tomorrow": signature(prefix + "GetStatus", "tomorrow", 86400),
                "none": ("x-signature", ""),
                "form": ("x-signature", "v1." + "9" * 30 + ".n." + "A" * 44),
            }
            for what, header in attempts.items():
                refusal = refused(admin.GetStatus, s.admin.GetStatusRequest(), metadata=(bearer, header), timeout=PATIENCE)
                self.assertEqual((refusal["code"], refusal["reason"]), ("UNAUTHENTICATED", "SIGNATURE_INVALID"), what)
            admin.GetStatus(s.admin.GetStatusRequest(), metadata=(bearer, signature(prefix + "GetStatus", "another-one")), timeout=PATIENCE)
        self.assertNotIn(told["hmac_key"], self.hub.log)
        self.assertNotIn(told["bearer"].split(".")[1], self.hub.log)

    # ---- what is on record ----

    def test_every_act_of_an_operator_leaves_an_entry_of_his(self):
        hub = self.hub
        live = self.stream(enrol(hub, Token(hub), "acted-on"))
        live.welcome()
        out = fixture.scratch() / "zoe"
        acts = [
            (("tokens", "create"), "token.created"),
            (("tokens", "revoke", Token(hub).id), "token.revoked"),
            (("agents", "label", "acted-on", "rack=9"), "agent.labelled"),
            (("agents", "allow", "acted-on", "127.0.0.0/8"), "agent.addresses_set"),
            (("agents", "revoke", "acted-on"), "agent.revoked"),
            (("agents", "readmit", "acted-on"), "agent.readmitted"),
            (("certs", "revoke", sha256_of(hub.issue("operator", "leaves"))), "certificate.revoked"),
            (("operators", "add", "zoe", "--out", str(out)), "operator.added"),
            (("operators", "role", "zoe", "operator"), "operator.role_set"),
            (("operators", "remove", "zoe"), "operator.removed"),
            (("bearers", "create", "robot", "--role", "viewer"), "bearer.created"),
            (("limits", "set", "uploads", "99"), "limit.set"),
            (("limits", "set", "uploads", "default"), "limit.set"),
            (("reload",), "hub.reload"),
            (("backup", str(fixture.scratch() / "copy")), "hub.backup"),
            (("agents", "forget", "acted-on", "--yes"), "agent.forgotten"),
        ]
        for words, event in acts:
            before = [e for e in events(hub, "--event", event) if e["actor"] == "operator/admin"]
            hub.ctl(*words)
            after = [e for e in events(hub, "--event", event) if e["actor"] == "operator/admin"]
            self.assertEqual(len(after), len(before) + 1, words)
            self.assertTrue(after[0]["correlation_id"] and after[0]["address"], (words, after[0]))
        told = json.loads(hub.ctl("audit", "verify", "--json").stdout)
        self.assertTrue(told["is_whole"])

    # ---- handshakes ----

    def test_ten_thousand_half_open_handshakes(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        wanted = min(10_000, hard - 500)
        hub = fixture.Hub().start()
        self.addCleanup(hub.stop)
        identity = enrol(hub, Token(hub), "patient")
        live = fixture.Stream(hub, identity).hello(os.urandom(16))
        live.welcome()
        crowd = []
        for i in range(wanted):
            raw = socket.create_connection(("127.0.0.1", hub.port), timeout=20)
            raw.sendall(HALF_A_HELLO)
            crowd.append(raw)
        try:
            live.send(batch=batch(1, [gauge(1, "test.crowd")], [(1, [1])], [(now_us(), 1, [1.0])]))
            live.ack(1)  # who is in stays in
            enrol(hub, Token(hub), "newcomer")  # and who is honest gets in
            status = hub.ask("sentinel.admin.v1.AdminService/GetStatus")
            self.assertLess(int(status.get("handshakesUnderWay", 0)), wanted)
            results = {row["result"]: int(row["count"]) for row in status["handshakes"]}
            self.assertGreater(results.get("crowded_out", 0), 0, results)
        finally:
            for raw in crowd:
                raw.close()


class Expired(unittest.TestCase):
    """What was stolen from a machine whose certificate has ended: they live for 10 s here."""

    LIFE = ("--identity-agent-life", "10s")

    def test_an_expired_certificate_without_its_key(self):
        with fixture.Hub(flags=self.LIFE) as hub:
            identity = enrol(hub, Token(hub), "expired")
            fixture.Stream(hub, identity).hello(os.urandom(16)).welcome()
            operator = hub.issue("operator", "not-here")
            key, chain = identity / "client-key.pem", chain_of(identity)
            ends = time.monotonic() + 11
            _, der = csr()
            _, other = csr()
            first, second = LateCall(hub), LateCall(hub)
            self.assertNotEqual(first.nonce, second.nonce)
            fixture.wait_until(lambda: time.monotonic() > ends, "its end")
            stranger, _ = csr()
            for what, request, signature in (
                    ("another key", der, first.sign(stranger, der)),
                    ("the nonce of another call", der, first.sign(key, der, second.nonce)),
                    ("a nonce of its own", der, first.sign(key, der, os.urandom(32))),
                    ("a signature of another request", other, first.sign(key, der)),
                    ("no signature", der, b""),
                    ("a long signature", der, os.urandom(60_000))):
                call = LateCall(hub)
                if what == "a signature of another request":
                    signature = call.sign(key, der)
                told = refused(call.ask, chain, request, signature)
                self.assertEqual((told["code"], told["reason"]), ("UNAUTHENTICATED", "SIGNATURE_INVALID"), what)
            told = refused(LateCall(hub).ask, [chain[0]], der, first.sign(key, der))
            self.assertEqual(told["reason"], "CHAIN_UNTRUSTED", "without its intermediate")
            call = LateCall(hub)  # an operator has no lineage: nothing is renewed for him here
            told = refused(call.ask, chain_of(operator), der, call.sign(operator / "client-key.pem", der))
            self.assertEqual(told["code"], "UNAUTHENTICATED")
            self.assertEqual(certificates(hub, "expired").popitem()[1], "active")
            entries = events(hub, "--event", "certificate.renewal_refused")
            self.assertGreaterEqual(len(entries), 7)
            # The right one gets it, and what was recorded of that on the wire is worth nothing afterwards.
            new, der = csr()
            call = LateCall(hub)
            signature = call.sign(key, der)
            answer = call.ask(chain, der, signature)
            renewed = enrolment.save(new, answer.chain, answer.roots)
            told = refused(LateCall(hub).ask, chain, der, signature)
            self.assertEqual(told["reason"], "SIGNATURE_INVALID", "replayed")
            fixture.Stream(hub, renewed).hello(os.urandom(16)).welcome()
            # And the old key, which is stolen and right, comes too late.
            _, der = csr()
            call = LateCall(hub)
            told = refused(call.ask, chain, der, call.sign(key, der))
            self.assertEqual((told["code"], told["reason"]), ("UNAUTHENTICATED", "CERTIFICATE_SUPERSEDED"))
            hub.ctl("agents", "revoke", "expired")
            call = LateCall(hub)
            told = refused(call.ask, chain_of(renewed), der, call.sign(new, der))
            self.assertEqual(told["reason"], "CERTIFICATE_REVOKED")

    def test_after_the_grace_the_right_key_is_refused_too(self):
        with fixture.Hub(flags=(*self.LIFE, "--identity-grace", "10s")) as hub:
            identity = enrol(hub, Token(hub), "too-late")
            fixture.Stream(hub, identity).hello(os.urandom(16)).welcome()
            ends = time.monotonic() + 21
            fixture.wait_until(lambda: time.monotonic() > ends, "the end of the grace")
            key, der = csr()
            call = LateCall(hub)
            told = refused(call.ask, chain_of(identity), der, call.sign(identity / "client-key.pem", der))
            self.assertEqual((told["code"], told["reason"]), ("UNAUTHENTICATED", "GRACE_OVER"))
            self.assertIn("readmit too-late", told["message"])
            hub.ctl("agents", "readmit", "too-late")
            call = LateCall(hub)
            answer = call.ask(chain_of(identity), der, call.sign(identity / "client-key.pem", der))
            fixture.Stream(hub, enrolment.save(key, answer.chain, answer.roots)).hello(os.urandom(16)).welcome()


class Forks(unittest.TestCase):
    """A certificate that is used after its successor was: 30 s are forgiven."""

    def forked(self, hub, name) -> bool:
        return json.loads(hub.ctl("agents", "show", name, "--json").stdout)["identity"]["state"] == "forked"

    def test_a_stolen_certificate_that_the_thief_renewed_stops_both(self):
        with fixture.Hub() as hub:
            victim = enrol(hub, Token(hub), "robbed")
            fixture.Stream(hub, victim).hello(os.urandom(16)).welcome()
            key, der = csr()
            with hub.channel(victim) as channel:  # the thief's
                answer = enrollment(hub, channel).Renew(fixture.stubs().enrollment.RenewRequest(csr=der), timeout=PATIENCE)
            thief = enrolment.save(key, answer.chain, answer.roots)
            live = fixture.Stream(hub, thief).hello(os.urandom(16))
            live.welcome()

            def victim_comes():
                told = fixture.Stream(hub, victim).hello(os.urandom(16)).error()
                self.assertIn(told["reason"], ("CERTIFICATE_SUPERSEDED", "LINEAGE_FORKED"))
                return told["reason"] == "LINEAGE_FORKED"
            fixture.wait_until(victim_comes, "the fork to be seen")
            told = live.error()
            self.assertEqual((told["code"], told["reason"]), ("UNAUTHENTICATED", "LINEAGE_FORKED"))
            self.assertIn("readmit", told["message"])
            for identity in (thief, victim):
                self.assertEqual(fixture.Stream(hub, identity).hello(os.urandom(16)).error()["reason"], "LINEAGE_FORKED")
            fixture.wait_until(lambda: self.forked(hub, "robbed"), "the state")
            self.assertEqual(len([e for e in events(hub, "--event", "lineage.forked") if e["object"] == "agent/robbed"]), 1)
            # The operator throws the thief's out for itself and readmits what is left.
            hub.ctl("certs", "revoke", sha256_of(thief), "--reason", "the thief's")
            hub.ctl("agents", "readmit", "robbed")
            fixture.Stream(hub, victim).hello(os.urandom(16)).welcome()
            self.assertEqual(fixture.Stream(hub, thief).hello(os.urandom(16)).error()["reason"], "CERTIFICATE_REVOKED")

    def early_machine(self, hub):
        """One whose certificate is renewed soon after a third of its life, so that what is forgiven ends long before that life."""
        for i in range(100):
            machine = Machine(hub, f"reverted-{i}")
            machine.enroll(token(hub))
            share = int.from_bytes(hashlib.sha256(chain_of(machine.identity)[0]).digest()[:8], "little") / 2**64
            if share < 0.25:  # schedule_unit() of agent/identity
                return machine, machine.name
        self.fail("none of 100 machines renews early")

    def test_a_machine_that_was_set_back_stops_until_it_is_readmitted(self):
        """A snapshot of the machine from before its renewal is started again, as a virtual machine is reverted."""
        with fixture.Hub(flags=("--identity-agent-life", "3m")) as hub:
            machine, name = self.early_machine(hub)
            snapshot = fixture.scratch() / "snapshot"
            with machine:
                machine.wait_streaming()
                shutil.copytree(machine.identity, snapshot)
                before = machine.serial()
                fixture.wait_until(lambda: machine.serial() != before and certificates(hub, name).get(machine.serial()) == "active",
                                   "a renewal", 2 * PATIENCE)
                superseded = time.monotonic()
            fixture.wait_until(lambda: time.monotonic() > superseded + 31, "what is forgiven")
            shutil.rmtree(machine.identity)
            shutil.copytree(snapshot, machine.identity)
            machine.identity.chmod(0o700)
            with machine:
                fixture.wait_until(lambda: self.forked(hub, name), "the fork to be seen")
                fixture.wait_until(lambda: machine.state_is("forked"), "the machine's status to say so")
                rounds = machine.status()["collect"]["rounds"]
                fixture.wait_until(lambda: machine.status()["collect"]["rounds"] > rounds + 1, "collection to go on")
                hub.ctl("agents", "readmit", name)
                machine.wait_streaming()
                fixture.wait_until(lambda: list(certificates(hub, name).values()).count("active") == 1, "one active certificate")


class LooseFiles(unittest.TestCase):
    def test_a_key_that_others_may_read_is_not_used_and_it_says_how_to_mend_it(self):
        with fixture.Hub() as hub:
            machine = Machine(hub, "loose")
            machine.enroll(token(hub))
            key = machine.identity / "client-key.pem"
            for path, modes, good in ((key, (0o644, 0o640, 0o606), 0o600), (machine.identity, (0o777, 0o770), 0o700)):
                for mode in modes:
                    path.chmod(mode)
                    with machine:
                        fixture.wait_until(lambda: machine.state_is("unreadable"), f"{path} of {mode:o} to be refused")
                        self.assertIn("chmod", machine.status()["identity"]["problem"])
                        self.assertIn(str(path), machine.status()["identity"]["problem"])
                        self.assertFalse(json.loads(hub.ctl("agents", "list", "--json").stdout)["agents"])
                        rounds = machine.status()["collect"]["rounds"]
                        fixture.wait_until(lambda: machine.status()["collect"]["rounds"] > rounds, "collection to go on")
                path.chmod(good)
            key.chmod(0o644)
            with machine:
                fixture.wait_until(lambda: machine.state_is("unreadable"), "the key to be refused")
                key.chmod(0o600)
                machine.wait_streaming()  # by itself


class Release(unittest.TestCase):
    def test_no_program_has_fault_points(self):
        if fixture.is_sanitized():
            self.skipTest("this build is for tests")
        for name in ("sentinel-hub", "sentinelctl", "sentinel-agent", "sentinel-bench"):
            with open(fixture.program(name), "rb") as program:
                self.assertNotIn(b"faultpoint:", program.read(), name)


if __name__ == "__main__":
    fixture.main()
