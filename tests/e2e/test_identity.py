# SPDX-License-Identifier: Apache-2.0
"""Tokens, enrolment, renewal, revocation, and what an attacker tries: as a foreign client and as an operator see them."""

import hashlib
import json
import os
import queue
import threading
import unittest

import enrolment
import fixture
from enrolment import Token, csr, enrol, enrollment, refused
from fixture import PATIENCE, batch, gauge, now_us


class Enrolment(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub(init=("--name", "hub.example.org")).start()

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def stream(self, identity) -> fixture.Stream:
        return fixture.Stream(self.hub, identity).hello(os.urandom(16))

    def test_a_string_enrols_a_machine_that_streams_at_once(self):
        token = Token(self.hub)
        self.assertEqual(token.hub, f"hub.example.org:{self.hub.port}")
        bundle = enrollment(self.hub).GetTrustBundle(fixture.stubs().enrollment.GetTrustBundleRequest(), timeout=PATIENCE)
        pins = []
        for root in bundle.roots:
            key = fixture.run("openssl", "x509", "-noout", "-pubkey", stdin=enrolment.pem(root).decode()).stdout
            der = fixture.scratch() / "key.der"
            fixture.run("openssl", "pkey", "-pubin", "-outform", "DER", "-out", der, stdin=key)
            pins.append(hashlib.sha256(der.read_bytes()).hexdigest())
        self.assertIn(token.pin, pins)
        identity = enrol(self.hub, token, "web-1")
        self.assertEqual(enrolment.name_of(identity), "web-1")
        stream = self.stream(identity)
        welcome = stream.welcome()
        self.assertGreater(welcome.registry_generation, 0)
        stream.send(batch=batch(1, [gauge(1, "test.enrolled")], [(1, [1])], [(now_us(), 1, [1.0])]))
        stream.ack(1)
        stream.end()
        shown = json.loads(self.hub.ctl("agents", "show", "web-1", "--json").stdout)["identity"]
        self.assertEqual((shown["state"], shown["certificate_sha256"]), ("allowed", enrolment.sha256_of(identity)))
        listed = json.loads(self.hub.ctl("certs", "list", "web-1", "--json").stdout)["certificates"]
        self.assertEqual([(c["state"], c["role"]) for c in listed], [("active", "agent")])

    def test_only_the_public_key_of_a_request_counts(self):
        s = fixture.stubs()
        key, der = csr(subject="/CN=admin/OU=operators/O=Sentinel")
        token = Token(self.hub)
        answer = enrollment(self.hub).Enroll(s.enrollment.EnrollRequest(
            token_id=token.id, token_secret=token.secret, csr=der, requested_id="honest", instance=os.urandom(16)), timeout=PATIENCE)
        identity = enrolment.save(key, answer.chain, answer.roots)
        subject = fixture.run("openssl", "x509", "-in", identity / "client-cert.pem", "-noout", "-subject").stdout
        self.assertIn("honest", subject)
        self.assertIn("agents", subject)
        self.assertNotIn("admin", subject)
        self.hub.ctl("operators", "list", identity=identity, check=4)

    def test_a_token_is_used_once_and_a_lost_reply_is_given_again(self):
        token = Token(self.hub)
        key, _ = csr()
        first = enrol(self.hub, token, "once", key=key)
        again = enrol(self.hub, token, "once", key=key)
        self.assertEqual(enrolment.chain_of(first), enrolment.chain_of(again))
        told = refused(enrol, self.hub, token, "twice")
        self.assertEqual((told["code"], told["reason"]), ("UNAUTHENTICATED", "TOKEN_USED"))
        self.stream(first).welcome()

    def test_tokens_that_are_wrong_expired_or_taken_back(self):
        token = Token(self.hub)
        told = refused(enrol, self.hub, token, secret=os.urandom(20))
        self.assertEqual((told["code"], told["reason"]), ("UNAUTHENTICATED", "TOKEN_UNKNOWN"))
        self.assertNotIn(token.secret.hex(), told["message"])
        nobody = Token(self.hub)
        nobody.id = "aaaaaaaa"
        self.assertEqual(refused(enrol, self.hub, nobody)["reason"], "TOKEN_UNKNOWN")
        short = Token(self.hub, "--ttl", "1s")
        fixture.wait_until(lambda: json.loads(self.hub.ctl("tokens", "list", "--json").stdout)["tokens"][0]["state"] == "expired",
                           "a token to expire")
        self.assertEqual(refused(enrol, self.hub, short)["reason"], "TOKEN_EXPIRED")
        self.hub.ctl("tokens", "revoke", token.id)
        self.assertEqual(refused(enrol, self.hub, token)["reason"], "TOKEN_REVOKED")
        self.hub.ctl("tokens", "revoke", "aaaaaaaa", check=3)
        self.hub.ctl("tokens", "create", "--ttl", "8d", check=2)
        self.hub.ctl("tokens", "create", "--uses", "1000000", check=2)
        self.hub.ctl("tokens", "create", "--addresses", "10.0.0.0/99", check=2)

    def test_scopes_of_a_token(self):
        bound = Token(self.hub, "--id", "db-?")
        self.assertEqual(refused(enrol, self.hub, bound, "web-7")["reason"], "NAME_NOT_ALLOWED")
        enrol(self.hub, bound, "db-7")
        elsewhere = Token(self.hub, "--addresses", "192.0.2.0/24")
        told = refused(enrol, self.hub, elsewhere, "far-1")
        self.assertEqual((told["code"], told["reason"]), ("PERMISSION_DENIED", "ADDRESS_NOT_ALLOWED"))
        labelled = Token(self.hub, "--label", "role=db", "--label", "rack=7")
        identity = enrol(self.hub, labelled, "labelled-1")
        self.stream(identity).welcome()
        agents = json.loads(self.hub.ctl("agents", "list", "labelled-1", "--json").stdout)["agents"]
        self.assertEqual(agents[0]["labels"], {"role": "db", "rack": "7"})

    def test_requests_that_are_none(self):
        _, der = csr()
        broken = bytearray(der)
        broken[-1] ^= 1  # the proof is not the key's
        for request in (b"", b"\x30\x03\x02\x01\x00", bytes(broken), der + b"more", os.urandom(100), b"\x30" * 60000):
            told = refused(enrol, self.hub, Token(self.hub), "csr", request=request)
            self.assertEqual((told["code"], told["reason"]), ("INVALID_ARGUMENT", "CSR_INVALID"), request[:8])
        told = refused(enrol, self.hub, Token(self.hub), "csr", request=b"\0" * (5 << 20))
        self.assertEqual(told["code"], "RESOURCE_EXHAUSTED")
        for name in ("UPPER", "-x", "a/b", "x" * 64, "a b", "ü"):
            self.assertEqual(refused(enrol, self.hub, Token(self.hub), name)["reason"], "NAME_NOT_ALLOWED", name)

    def test_renewal_over_the_channel_and_what_it_supersedes(self):
        s = fixture.stubs()
        old = enrol(self.hub, Token(self.hub), "renewed")
        self.stream(old).welcome()
        key, der = csr()
        stub = enrollment(self.hub, self.hub.channel(old))
        answer = stub.Renew(s.enrollment.RenewRequest(csr=der), timeout=PATIENCE)
        again = stub.Renew(s.enrollment.RenewRequest(csr=der), timeout=PATIENCE)
        self.assertEqual(list(answer.chain), list(again.chain))
        new = enrolment.save(key, answer.chain, answer.roots)
        self.stream(old).welcome()  # issued, never presented: the old one is current
        self.stream(new).welcome()
        told = self.stream(old).error()
        self.assertEqual((told["code"], told["reason"]), ("UNAUTHENTICATED", "CERTIFICATE_SUPERSEDED"))
        self.assertEqual(refused(stub.Renew, s.enrollment.RenewRequest(csr=b"no"), timeout=PATIENCE)["code"], "UNAUTHENTICATED")
        told = refused(enrollment(self.hub, self.hub.channel(new)).Renew, s.enrollment.RenewRequest(csr=b"no"), timeout=PATIENCE)
        self.assertEqual(told["reason"], "CSR_INVALID")

    def late(self, chain, key, request: bytes | None = None, nonce: bytes | None = None, subject_key=None):
        s = fixture.stubs()
        made, der = csr(key=subject_key)
        outgoing: queue.Queue = queue.Queue()
        call = enrollment(self.hub).RenewExpired(iter(outgoing.get, None), timeout=PATIENCE)
        first = next(call)
        self.assertEqual(len(first.nonce), 32)
        signed = b"sentinel-renew-expired-1\0" + (nonce or first.nonce) + hashlib.sha256(der).digest()
        outgoing.put(s.enrollment.RenewExpiredRequest(chain=chain, csr=request or der, signature=enrolment.sign(key, signed)))
        answer = next(call)
        outgoing.put(None)
        return made, answer

    def test_an_expired_certificate_is_renewed_by_its_key_alone(self):
        identity = self.hub.issue("agent", "late-1")
        # The chain is looked at as of its end: a valid certificate is none that expired, but the rules of key and nonce hold.
        key, chain = identity / "client-key.pem", enrolment.chain_of(identity)
        other, _ = csr()
        told = refused(self.late, chain, other)
        self.assertEqual((told["code"], told["reason"]), ("UNAUTHENTICATED", "SIGNATURE_INVALID"))
        told = refused(self.late, chain, key, nonce=os.urandom(32))
        self.assertEqual(told["reason"], "SIGNATURE_INVALID")
        told = refused(self.late, [os.urandom(300)], key)
        self.assertEqual(told["reason"], "CHAIN_UNTRUSTED")
        self.assertEqual(refused(self.late, [], key)["code"], "INVALID_ARGUMENT")

    def test_what_operators_do_to_an_agent(self):
        identity = enrol(self.hub, Token(self.hub), "moved")
        stream = self.stream(identity)
        stream.welcome()
        self.hub.ctl("agents", "revoke", "moved", "--dry-run")
        self.assertTrue(json.loads(self.hub.ctl("agents", "show", "moved", "--json").stdout)["connected"])
        told = json.loads(self.hub.ctl("agents", "revoke", "moved", "--reissue", "--reason", "lost", "--json").stdout)
        self.assertEqual(stream.error()["reason"], "CERTIFICATE_REVOKED")
        shown = json.loads(self.hub.ctl("agents", "show", "moved", "--json").stdout)["identity"]
        self.assertEqual((shown["state"], shown["reason"]), ("revoked", "lost"))
        token = Token.__new__(Token)
        import base64
        _, _, token.id, secret, _ = told["enrolment"].split("/")
        token.secret = base64.b32decode(secret.upper() + "=" * (-len(secret) % 8))
        self.assertEqual(refused(enrol, self.hub, token, "another")["reason"], "NAME_NOT_ALLOWED")
        anew = enrol(self.hub, token, "moved")
        self.stream(anew).welcome()
        self.assertEqual(self.stream(identity).error()["code"], "UNAUTHENTICATED")
        self.hub.ctl("agents", "revoke", "moved")
        self.assertEqual(self.stream(anew).error()["reason"], "CERTIFICATE_REVOKED")
        self.hub.ctl("agents", "readmit", "moved")
        self.stream(anew).welcome()
        self.hub.ctl("agents", "allow", "moved", "192.0.2.0/24")
        told = self.stream(anew).error()
        self.assertEqual((told["code"], told["reason"]), ("PERMISSION_DENIED", "ADDRESS_NOT_ALLOWED"))
        self.hub.ctl("agents", "allow", "moved", "127.0.0.0/8", "::1")
        self.stream(anew).welcome()
        self.hub.ctl("agents", "allow", "moved", "any")
        self.hub.ctl("agents", "allow", "moved", "127.0.0.1/99", check=2)
        self.hub.ctl("agents", "forget", "moved", check=2)  # cannot be undone: --yes
        self.hub.ctl("agents", "forget", "moved", "--yes")
        self.assertEqual(self.stream(anew).error()["code"], "UNAUTHENTICATED")
        for verb in ("revoke", "readmit"):
            self.hub.ctl("agents", verb, "nobody", check=3)

    def test_a_clone_is_refused_and_the_registered_machine_stays(self):
        s = fixture.stubs()
        mine = s.telemetry.Fingerprint(machine_id=hashlib.sha256(b"mine").digest())
        other = s.telemetry.Fingerprint(machine_id=hashlib.sha256(b"other").digest())
        identity = enrol(self.hub, Token(self.hub), "cloned", fingerprint=mine)
        live = fixture.Stream(self.hub, identity).hello(os.urandom(16), fingerprint=mine)
        live.welcome()
        told = fixture.Stream(self.hub, identity).hello(os.urandom(16), fingerprint=other).error()
        self.assertEqual((told["code"], told["reason"]), ("ABORTED", "AGENT_ID_CLONED"))
        live.send(batch=batch(1, [gauge(1, "test.still")], [(1, [1])], [(now_us(), 1, [1.0])]))
        live.ack(1)
        self.assertIn("clones", self.hub.ctl("agents", "show", "cloned").stdout)

    def test_operators_come_go_and_renew_themselves(self):
        out = fixture.scratch() / "anna"
        self.hub.ctl("operators", "add", "anna", "--role", "viewer", "--out", out)
        self.hub.ctl("operators", "add", "anna", "--out", out, check=2)  # somebody's key is there
        self.hub.ctl("status", identity=out)
        self.hub.ctl("tokens", "list", identity=out, check=4)
        self.hub.ctl("operators", "role", "anna", "operator")
        self.hub.ctl("tokens", "list", identity=out)
        before = enrolment.sha256_of(out)
        self.hub.ctl("certs", "renew", identity=out)
        self.assertNotEqual(before, enrolment.sha256_of(out))
        self.hub.ctl("tokens", "list", identity=out)
        listed = {o["name"]: o["role"] for o in json.loads(self.hub.ctl("operators", "list", "--json").stdout)["operators"]}
        self.assertEqual(listed["anna"], "operator")
        self.hub.ctl("certs", "revoke", before[:16], "--reason", "old")
        self.hub.ctl("operators", "remove", "anna")
        self.hub.ctl("status", identity=out, check=4)
        self.hub.ctl("operators", "remove", "admin", check=1)  # the last admin stays
        self.hub.ctl("operators", "remove", "nobody", check=3)

    def test_bearer_tokens_and_signed_requests(self):
        import base64
        import grpc
        import hmac
        import time
        s = fixture.stubs()
        path = "/sentinel.admin.v1.AdminService/GetStatus"

        def call(*metadata):
            with self.hub.channel() as channel:
                return s.admin_grpc.AdminServiceStub(channel).GetStatus(s.admin.GetStatusRequest(), metadata=metadata, timeout=PATIENCE)
        plain = json.loads(self.hub.ctl("bearers", "create", "dashboard", "--role", "viewer", "--json").stdout)
        self.assertEqual(call(("authorization", "Bearer " + plain["bearer"])).state, "SERVING")
        told = refused(call, ("authorization", "Bearer " + plain["bearer_id"] + ".aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"))
        self.assertEqual((told["code"], told["reason"]), ("UNAUTHENTICATED", "BEARER_UNKNOWN"))
        signed = json.loads(self.hub.ctl("bearers", "create", "script", "--role", "viewer", "--must-sign", "--json").stdout)
        bearer = ("authorization", "Bearer " + signed["bearer"])
        self.assertEqual(refused(call, bearer)["reason"], "SIGNATURE_INVALID")

        def signature(seconds: int, nonce: str, method: str = "POST"):
            text = "\n".join(["v1", str(seconds), nonce, method, path, hashlib.sha256(b"").hexdigest()])
            mac = hmac.new(bytes.fromhex(signed["hmac_key"]), text.encode(), hashlib.sha256).digest()
            return ("x-signature", f"v1.{seconds}.{nonce}.{base64.b64encode(mac).decode()}")
        now = int(time.time())
        first = signature(now, "nonce-0001")
        self.assertEqual(call(bearer, first).state, "SERVING")
        for bad in (first, signature(now - 3600, "nonce-0002"), signature(now, "nonce-0003", "GET")):
            self.assertEqual(refused(call, bearer, bad)["reason"], "SIGNATURE_INVALID", bad)
        with self.hub.channel() as channel:
            tail = s.query_grpc.QueryServiceStub(channel).TailLogs(s.query.TailLogsRequest(), timeout=PATIENCE, metadata=(
                ("authorization", "Bearer " + plain["bearer"]),))
            self.hub.ctl("bearers", "revoke", plain["bearer_id"])
            self.assertIn(refused(lambda: list(tail))["reason"], ("BEARER_REVOKED", "BEARER_UNKNOWN"))
        self.assertIn(refused(call, ("authorization", "Bearer " + plain["bearer"]))["reason"], ("BEARER_REVOKED", "BEARER_UNKNOWN"))
        self.assertIsInstance(grpc.StatusCode.OK, grpc.StatusCode)

    def test_what_was_done_is_in_the_audit_and_the_chain_holds(self):
        token = Token(self.hub, "--id", "audited")
        refused(enrol, self.hub, token, "audited", secret=os.urandom(20))
        enrol(self.hub, token, "audited")
        self.hub.ctl("agents", "revoke", "audited", "--reason", "seen")

        def codes():
            found = json.loads(self.hub.ctl("audit", "search", "--limit", "1000", "--json").stdout)["entries"]
            return {entry["event"] for entry in found}
        fixture.wait_until(lambda: {"token.created", "token.failed", "token.used", "agent.enrolled", "agent.revoked",
                                    "hub.started", "authentication.succeeded"} <= codes(), "the audit to have it all")
        found = json.loads(self.hub.ctl("audit", "search", "--object", "agent/audited", "--json").stdout)["entries"]
        self.assertTrue(all(entry["object"] == "agent/audited" for entry in found) and found)
        whole = json.loads(self.hub.ctl("audit", "verify", "--json").stdout)
        self.assertTrue(whole["is_whole"])
        lines = self.hub.ctl("audit", "export").stdout.splitlines()
        self.assertGreaterEqual(len(lines), whole["entries"])
        self.assertTrue(all(json.loads(line) for line in lines))

    def test_limits_are_listed_and_set(self):
        limits = {row["name"]: row for row in json.loads(self.hub.ctl("limits", "list", "--json").stdout)["limits"]}
        self.assertEqual(limits["uploads"]["value"], 100)
        self.hub.ctl("limits", "set", "uploads", "7", "--for", "some-agent")
        self.hub.ctl("limits", "set", "no-such-limit", "7", check=3)
        scopes = {row["scope"] for row in json.loads(self.hub.ctl("limits", "list", "--json").stdout)["limits"]}
        self.assertIn("agent/some-agent", scopes)
        self.hub.ctl("limits", "set", "uploads", "default", "--for", "some-agent")

    def test_who_calls_too_often_is_told_when_to_come_again(self):
        out = fixture.scratch() / "busy"
        self.hub.ctl("operators", "add", "busy-op", "--role", "operator", "--out", out)
        self.hub.ctl("limits", "set", "privileged_calls", "2", "--for", "busy-op")
        for _ in range(2):
            self.hub.ctl("tokens", "create", identity=out)
        s = fixture.stubs()
        with self.hub.channel(out) as channel:
            told = refused(s.admin_grpc.AdminServiceStub(channel).CreateToken, s.admin.CreateTokenRequest(), timeout=PATIENCE)
        self.assertEqual((told["code"], told["reason"], told["quota"]), ("RESOURCE_EXHAUSTED", "RATE_LIMITED", "privileged_calls"))
        self.assertGreater(told["retry_s"], 0)
        self.hub.ctl("tokens", "list", identity=out)  # looking is another thing
        self.hub.ctl("tokens", "create")              # and so are others

    def test_an_agent_that_was_forgotten_is_another_one_when_it_comes_again(self):
        identity = enrol(self.hub, Token(self.hub), "gone")
        stream = self.stream(identity)
        stream.welcome()
        stream.send(batch=batch(1, [gauge(1, "test.gone")], [(1, [1])], [(now_us(), 1, [1.0])]))
        stream.ack(1)
        self.assertEqual(fixture.count_of(self.hub, "test.gone", "gone"), 1)
        self.hub.ctl("agents", "label", "gone", "role=db")
        told = json.loads(self.hub.ctl("agents", "forget", "gone", "--yes", "--json").stdout)
        self.assertEqual((told["erased_samples"], told["erased_log_records"]), (1, 0))
        self.assertEqual(stream.error()["code"], "UNAUTHENTICATED")
        self.hub.ctl("agents", "show", "gone", check=3)
        self.assertNotIn("gone", self.hub.ctl("agents", "list").stdout)
        self.assertEqual(json.loads(self.hub.ctl("certs", "list", "gone", "--state", "active", "--json").stdout)["certificates"], [])
        anew = enrol(self.hub, Token(self.hub), "gone")
        self.stream(anew).welcome()
        listed = json.loads(self.hub.ctl("agents", "list", "gone", "--json").stdout)["agents"][0]
        self.assertEqual((listed["samples_stored"], listed["labels"]), (0, {}))
        self.assertEqual(fixture.count_of(self.hub, "test.gone", "gone"), 0)

    def test_a_browser_gets_a_file_under_a_password(self):
        out = fixture.scratch() / "admin.p12"
        fixture.run(fixture.program("sentinelctl"), "--identity", self.hub.admin, "operators", "export", out, stdin="secret\n")
        shown = fixture.run("openssl", "pkcs12", "-in", out, "-passin", "pass:secret", "-nokeys").stdout
        self.assertIn("admin", shown)
        fixture.run("openssl", "pkcs12", "-in", out, "-passin", "pass:wrong", "-nokeys", check=1)
        fixture.run(fixture.program("sentinelctl"), "--identity", self.hub.admin, "operators", "export", out, stdin="secret\n", check=2)

    def test_reload_and_backup_through_the_hub(self):
        told = json.loads(self.hub.ctl("reload", "--json").stdout)
        self.assertEqual(len(told["settings_sha256"]), 64)
        to = fixture.scratch() / "copy"
        told = json.loads(self.hub.ctl("backup", to, "--json").stdout)
        self.assertEqual(told["to"], str(to))
        self.assertTrue((to / "certs" / "ca-cert.pem").exists() and (to / "db").exists())
        self.hub.ctl("backup", to, check=2)  # something is there
        self.hub.ctl("backup", "relative", check=2)


class Anchors(unittest.TestCase):
    def test_what_an_agent_kept_shows_that_the_chain_is_the_same(self):
        """The hub's word from before a restart, as agents keep it."""
        with fixture.Hub() as hub:
            identity = hub.issue("agent", "witness")
            hub.stop(expect=0)  # an anchor over all of it
            hub.start()
            anchor = fixture.Stream(hub, identity).hello(os.urandom(16)).welcome().audit_anchor
            self.assertGreater(anchor.entry, 0)
            line = {"time_us": anchor.time_unix_us, "entry": anchor.entry, "sha256": anchor.sha256.hex(), "signature": anchor.signature.hex()}
            kept = fixture.scratch() / "anchors"
            kept.write_text(json.dumps(line) + "\n" + json.dumps(line) + "\n")
            told = json.loads(hub.ctl("audit", "verify", "--anchors", kept, "--json").stdout)
            self.assertTrue(told["is_whole"])
            self.assertEqual(told["anchors_refused"], 0)
            self.assertGreaterEqual(told["anchors"], 2)
            line["signature"] = "00" + line["signature"][2:]
            kept.write_text(json.dumps({"anchors": [line]}))
            told = json.loads(hub.ctl("audit", "verify", "--anchors", kept, "--json").stdout)
            self.assertEqual(told["anchors_refused"], 1)
            kept.write_text("nothing\n")
            hub.ctl("audit", "verify", "--anchors", kept, check=2)


class Guessing(unittest.TestCase):
    def test_an_address_that_guesses_is_slowed_down_and_others_are_not(self):
        with fixture.Hub(flags=("--listen-trusted-proxies", "127.0.0.2/32")) as hub:
            guesser, honest = enrolment.Relay(hub, "203.0.113.9"), enrolment.Relay(hub, "198.51.100.7")
            token = Token(hub)
            reasons = []
            with guesser.channel() as channel:
                for _ in range(40):
                    told = refused(enrol, hub, token, channel=channel, secret=os.urandom(20))
                    reasons.append(told["reason"])
                    if told["reason"] == "RATE_LIMITED":
                        break
                self.assertEqual(set(reasons), {"TOKEN_UNKNOWN", "RATE_LIMITED"})
                self.assertEqual((told["code"], told["quota"]), ("RESOURCE_EXHAUSTED", "failed_authentications"))
                self.assertGreater(told["retry_s"], 0)
                # Also with the right secret: it is not even looked at.
                self.assertEqual(refused(enrol, hub, token, channel=channel)["reason"], "RATE_LIMITED")
            with honest.channel() as channel:
                enrol(hub, token, "honest", channel=channel)
            guesser.close()
            honest.close()
            self.assertIn("203.0.113.9", hub.log)
            fixture.wait_until(lambda: json.loads(hub.ctl("audit", "search", "--event", "token.failed", "--json").stdout)["entries"],
                               "the guesses in the audit")


class Cut(unittest.TestCase):
    """Revocation ends what is open, whatever it is, and idle or not."""

    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def end_of(self, call) -> dict:
        import grpc
        try:
            for _ in call:
                pass
        except grpc.RpcError as error:
            return fixture.rich(error)
        return {"code": "OK", "reason": None}

    def open_all(self, agent, operator):
        s = fixture.stubs()
        self.queues = []

        def stream(method, stub, first=None):
            outgoing: queue.Queue = queue.Queue()
            self.queues.append(outgoing)
            if first is not None:
                outgoing.put(first)
            return method(stub)(iter(outgoing.get, None), timeout=PATIENCE)
        channel, people = self.hub.channel(agent), self.hub.channel(operator)
        telemetry = s.telemetry_grpc.TelemetryServiceStub(channel)
        hello = dict(first_sequence=1, last_sequence=0, instance=b"i" * 16, time_unix_us=now_us(), agent_version="test")
        calls = {
            "metrics": stream(lambda t: t.StreamMetrics, telemetry, s.telemetry.StreamMetricsRequest(
                hello=s.telemetry.StreamHello(spool_id=os.urandom(16), **hello))),
            "logs": stream(lambda t: t.StreamLogs, telemetry, s.telemetry.StreamLogsRequest(
                hello=s.telemetry.StreamHello(spool_id=os.urandom(16), **hello))),
            "upload": stream(lambda t: t.UploadBulkData, telemetry, s.telemetry.UploadBulkDataRequest(
                header=s.telemetry.UploadHeader(upload_id=os.urandom(16), name="x", size_bytes=10))),
            "silent metrics": stream(lambda t: t.StreamMetrics, telemetry),
            "tail": s.query_grpc.QueryServiceStub(people).TailLogs(s.query.TailLogsRequest(), timeout=PATIENCE),
            "watch": s.health_grpc.HealthStub(people).Watch(s.health.HealthCheckRequest(), timeout=PATIENCE),
        }
        next(calls["metrics"]), next(calls["logs"]), next(calls["upload"]), next(calls["watch"])
        inventory: queue.Queue = queue.Queue()
        self.queues.append(inventory)
        done: queue.Queue = queue.Queue()

        def upload():
            done.put(refused(telemetry.UploadInventory, iter(inventory.get, None), timeout=PATIENCE))
        threading.Thread(target=upload, daemon=True).start()
        reflection = people.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                                          request_serializer=bytes, response_deserializer=bytes)
        asked: queue.Queue = queue.Queue()
        self.queues.append(asked)
        asked.put(b"\x3a\x00")
        calls["reflection"] = reflection(iter(asked.get, None), timeout=PATIENCE)
        next(calls["reflection"])
        return calls, done

    def cut_by(self, revoke, name):
        agent = self.hub.issue("agent", name)
        operator = self.hub.issue("operator", name + "-op", "--role", "admin")
        calls, inventory = self.open_all(agent, operator)
        revoke(agent)
        revoke(operator)
        for what, call in calls.items():
            told = self.end_of(call)
            self.assertEqual((told["code"], told["reason"]), ("UNAUTHENTICATED", "CERTIFICATE_REVOKED"), what)
        told = inventory.get(timeout=PATIENCE)
        self.assertEqual((told["code"], told["reason"]), ("UNAUTHENTICATED", "CERTIFICATE_REVOKED"))
        for outgoing in self.queues:
            outgoing.put(None)

    def test_everything_open_ends_with_the_certificate(self):
        self.cut_by(lambda identity: self.hub.ctl("certs", "revoke", enrolment.sha256_of(identity)), "cut-1")

    def test_no_batch_sent_after_it_is_acknowledged(self):
        """Batches go on at full speed while an operator revokes: what is acknowledged was sent before and is stored."""
        agent = self.hub.issue("agent", "busy")
        stream = fixture.Stream(self.hub, agent).hello(os.urandom(16))
        stream.welcome()
        stop = threading.Event()
        sent = [0]

        def pump():
            for i in range(1, 200000):
                if stop.is_set():
                    return
                sent[0] = i
                while stream.outgoing.qsize() > 200 and not stop.is_set():
                    stop.wait(0.001)
                stream.send(batch=batch(i, [gauge(1, "test.busy")] if i == 1 else [], [(1, [1])] if i == 1 else [],
                                        [(now_us(), 1, [float(i)])]))
        threading.Thread(target=pump, daemon=True).start()
        stream.ack(500)
        self.hub.ctl("agents", "revoke", "busy")
        sent_before = sent[0]
        last = 0
        import grpc
        try:
            while True:
                last = max(last, stream.receive().ack.sequence)
        except grpc.RpcError as error:
            told = fixture.rich(error)
        stop.set()
        self.assertEqual((told["code"], told["reason"]), ("UNAUTHENTICATED", "CERTIFICATE_REVOKED"))
        runs = json.loads(self.hub.ctl("agents", "show", "busy", "--json").stdout)["runs"]
        self.assertGreaterEqual(runs[0]["last_sequence"], last)
        self.assertLessEqual(last, sent_before)
        stream.close()
        told = fixture.Stream(self.hub, agent).hello(os.urandom(16)).error()
        self.assertEqual(told["reason"], "CERTIFICATE_REVOKED")


if __name__ == "__main__":
    fixture.main()
