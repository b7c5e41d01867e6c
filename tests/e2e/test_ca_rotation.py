# SPDX-License-Identifier: Apache-2.0
"""A new CA under a fleet that streams, step by step, and with kill -9 of the hub at each step; a foreign CA whose agents register
themselves; bearer tokens and signed requests by HTTPS; the list of revoked certificates."""

import base64
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import shutil
import socket
import ssl
import time
import unittest

import fixture
import test_enrol
from test_certs import openssl, script, serial_of

STEPS = ("prepare", "issue", "serve", "retire")


def issuer_of(path: pathlib.Path) -> str:
    return openssl("x509", "-in", path, "-noout", "-issuer").stdout


def hub_issuer(hub) -> str:
    pem = ssl.get_server_certificate(("127.0.0.1", hub.https_port))
    path = hub.home / "shown.pem"
    path.write_text(pem)
    return issuer_of(path)


def rotation(hub, *words, check=0, identity=None):
    return hub.ctl("certs", "rotate-ca", *words, "--yes", "--json", check=check, identity=identity)


def status(hub, identity=None) -> dict:
    return json.loads(hub.ctl("certs", "rotate-ca", "--json", identity=identity).stdout)


@unittest.skipUnless(shutil.which("openssl"), "openssl looks at what we make")
class Rotation(unittest.TestCase):
    def test_a_new_ca_under_a_fleet_that_streams(self):
        with fixture.Hub(flags=("--identity-agent-life", "20s")) as hub:
            machines = []
            for name in ("web-1", "web-2", "web-3"):
                machine = test_enrol.Machine(hub, name)
                machine.enroll(test_enrol.token(hub))
                self.addCleanup(machine.start().stop)
                machines.append(machine)
            for machine in machines:
                machine.wait_streaming()
            admin = hub.home / "admin"
            shutil.copytree(hub.admin, admin)

            rotation(hub, "prepare")
            fixture.wait_until(lambda: (s := status(hub))["agents_ready"] == s["agents_total"] == 3, "all three to have the new root")
            rotation(hub, "issue")
            for machine in machines:
                fixture.wait_until(lambda m=machine: "Agents CA 2" in issuer_of(m.identity / "client-cert.pem"),
                                   f"{machine.name} to renew by the new CA")
            self.assertNotIn("Hubs CA 2", hub_issuer(hub))
            rotation(hub, "serve")
            fixture.wait_until(lambda: "Hubs CA 2" in hub_issuer(hub), "the hub to show a certificate by the new CA")

            refused = rotation(hub, "retire", check=None)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn("operator admin", refused.stderr)
            hub.ctl("certs", "renew", identity=admin)
            fixture.run(fixture.program("sentinelctl"), "--hub", f"127.0.0.1:{hub.port}", "--identity", admin, "operators", "list")
            hub.ctl("certs", "revoke", hashlib.sha256(ssl.PEM_cert_to_DER_cert(
                (hub.admin / "client-cert.pem").read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")
            ).hexdigest(), "--yes", identity=admin)
            fixture.wait_until(lambda: rotation(hub, "retire", check=None, identity=admin).returncode == 0,
                               "nobody to have a certificate by the old CA")
            self.assertEqual(status(hub, identity=admin)["phase"], "steady")
            self.assertEqual((hub.state / "certs/ca-cert.pem").read_text().count("BEGIN"), 1)
            before = [machine.status()["spool"]["acknowledged_samples"] for machine in machines]
            for machine, acknowledged in zip(machines, before):
                fixture.wait_until(lambda m=machine, n=acknowledged: m.status()["spool"]["acknowledged_samples"] > n + 100,
                                   f"{machine.name} to go on after the old root is gone")
                self.assertEqual(machine.status()["hub"]["state"], "connected")

    def test_kill_9_at_each_moment_of_each_step(self):
        if b"faultpoint:ca_step" not in pathlib.Path(fixture.program("sentinel-hub", fixture.FAULTS)).read_bytes():
            self.skipTest("SENTINEL_FAULTS names no build with fault points")
        for point in ("ca_step_before_commit", "ca_step_after_commit", "ca_step_roots_written"):
            with self.subTest(point=point):
                hub = fixture.Hub(build=fixture.FAULTS)
                self.addCleanup(hub.stop)
                phases = {"prepare": "prepared", "issue": "issuing", "serve": "serving", "retire": "steady"}
                for step in STEPS:
                    hub.start(env={"SENTINEL_FAULT": point})
                    rotation(hub, step, "--force", check=None)
                    hub.process.wait(fixture.PATIENCE)
                    hub.kill()
                    hub.start()
                    roots = (hub.state / "certs/ca-cert.pem").read_text().count("BEGIN")
                    if point == "ca_step_before_commit":
                        rotation(hub, step, "--force")
                    told = status(hub) if step != "retire" else None
                    if told:
                        self.assertEqual(told["phase"], phases[step])
                        self.assertEqual((hub.state / "certs/ca-cert.pem").read_text().count("BEGIN"), 2, f"{step} after {roots}")
                    hub.stop(expect=0)


def ask(hub, path, method="GET", headers=None, roots: pathlib.Path | None = None) -> tuple:
    context = ssl.create_default_context(cafile=str(roots or hub.admin / "ca-cert.pem"))
    connection = http.client.HTTPSConnection("127.0.0.1", hub.https_port, context=context, timeout=fixture.PATIENCE)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@unittest.skipUnless(shutil.which("openssl"), "openssl looks at what we make")
class Lists(unittest.TestCase):
    def text_of(self, hub, der: bytes, ca: pathlib.Path) -> str:
        path = hub.home / "list.crl"
        path.write_bytes(der)
        done = openssl("crl", "-inform", "DER", "-in", path, "-CAfile", ca, "-noout", "-text")
        self.assertIn("verify OK", done.stderr)
        return done.stdout

    def test_each_authority_has_a_list_while_there_are_two(self):
        with fixture.Hub(init=("--name", "hub.example.org")) as hub:
            certs = hub.state / "certs"
            old = hub.issue("agent", "old-1")
            rotation(hub, "prepare")
            rotation(hub, "issue", "--force")
            new = hub.issue("agent", "new-1")
            for name in ("old-1", "new-1"):
                hub.ctl("agents", "revoke", name, "--yes")
            pages = []
            for mine, other, ca in ((old, new, certs / "agents-ca-cert.pem"), (new, old, certs / "agents-ca-2-cert.pem")):
                digest = openssl("x509", "-in", ca, "-noout", "-fingerprint", "-sha256").stdout.split("=")[1].strip().replace(":", "").lower()
                pages.append(f"/crl/{digest}.crl")
                leaf = mine / "client-cert.pem"
                self.assertIn("https://hub.example.org:8081" + pages[-1],
                              openssl("x509", "-in", leaf, "-noout", "-ext", "crlDistributionPoints").stdout)
                code, der = ask(hub, pages[-1])
                self.assertEqual(code, 200, der)
                text = self.text_of(hub, der, ca)
                self.assertIn(serial_of(leaf).split("=")[1], text)
                self.assertNotIn(serial_of(other / "client-cert.pem").split("=")[1], text)
                openssl("crl", "-inform", "DER", "-in", hub.home / "list.crl", "-out", hub.home / "list.pem")
                (hub.home / "with.pem").write_bytes((certs / "ca-cert.pem").read_bytes() + ca.read_bytes())
                done = openssl("verify", "-crl_check", "-CAfile", hub.home / "with.pem", "-CRLfile", hub.home / "list.pem", leaf, check=None)
                self.assertIn("revoked", done.stdout + done.stderr)
            self.text_of(hub, ask(hub, "/crl")[1], certs / "agents-ca-2-cert.pem")  # the one that signs now
            for ca in ("hubs-ca-cert.pem", "hubs-ca-2-cert.pem"):
                digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert((certs / ca).read_text())).hexdigest()
                self.text_of(hub, ask(hub, f"/crl/{digest}.crl")[1], certs / ca)
            for nothing in ("/crl/" + 64 * "0" + ".crl", "/crl/", "/crl/x.crl", pages[0][:-4], "/crl/" + 64 * "g" + ".crl"):
                self.assertEqual(ask(hub, nothing)[0], 404, nothing)
            rotation(hub, "serve", "--force")
            fixture.wait_until(lambda: "Hubs CA 2" in hub_issuer(hub), "the hub to show a certificate by the new CA")
            rotation(hub, "retire", "--force")
            self.assertEqual([ask(hub, page, roots=certs / "ca-cert.pem")[0] for page in pages], [404, 200])


def signed(key: bytes, method: str, path: str, nonce: str, seconds: int | None = None) -> str:
    seconds = int(time.time()) if seconds is None else seconds
    text = "\n".join(("v1", str(seconds), nonce, method, path, hashlib.sha256(b"").hexdigest()))
    return f"v1.{seconds}.{nonce}." + base64.b64encode(hmac.digest(key, text.encode(), "sha256")).decode()


class Bearers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def create(self, *flags) -> dict:
        return json.loads(self.hub.ctl("bearers", "create", "grafana", "--role", "viewer", "--json", *flags).stdout)

    def test_a_token_reads_metrics_until_it_is_revoked(self):
        token = self.create()
        header = {"authorization": f"Bearer {token['bearer']}"}
        self.assertEqual(ask(self.hub, "/metrics", headers=header)[0], 200)
        code, text = ask(self.hub, "/metrics", headers={"authorization": "Bearer aaaaaaaa." + "a" * 32})
        self.assertEqual((code, json.loads(text)["reason"]), (401, "TOKEN_UNKNOWN"))
        self.hub.ctl("bearers", "revoke", token["bearer_id"], "--yes")
        code, text = ask(self.hub, "/metrics", headers=header)
        self.assertEqual((code, json.loads(text)["reason"]), (401, "TOKEN_REVOKED"))

    def test_a_signed_request_counts_once_and_its_key_is_rolled(self):
        token = self.create("--must-sign")
        key = bytes.fromhex(token["hmac_key"])
        header = {"authorization": f"Bearer {token['bearer']}"}
        code, text = ask(self.hub, "/metrics", headers=header)
        self.assertEqual((code, json.loads(text)["reason"]), (401, "SIGNATURE_REFUSED"))
        good = header | {"x-signature": signed(key, "GET", "/metrics", "nonce-01")}
        self.assertEqual(ask(self.hub, "/metrics", headers=good)[0], 200)
        self.assertEqual(ask(self.hub, "/metrics", headers=good)[0], 401)
        self.assertEqual(ask(self.hub, "/metrics/agents", headers=header | {
            "x-signature": signed(key, "GET", "/metrics", "nonce-02")})[0], 401)
        late = signed(key, "GET", "/metrics", "nonce-03", int(time.time()) - 400)
        self.assertIn("set the clock", json.loads(ask(self.hub, "/metrics", headers=header | {"x-signature": late})[1])["message"])
        code, text = ask(self.hub, "/bearer/roll", "POST", header | {"x-signature": signed(key, "POST", "/bearer/roll", "nonce-04")})
        self.assertEqual(code, 200, text)
        new = bytes.fromhex(json.loads(text)["hmac_key"])
        for one, nonce in ((key, "nonce-05"), (new, "nonce-06")):
            self.assertEqual(ask(self.hub, "/metrics", headers=header | {"x-signature": signed(one, "GET", "/metrics", nonce)})[0], 200)


@unittest.skipUnless(shutil.which("openssl"), "openssl looks at what we make")
class Foreign(unittest.TestCase):
    def test_agents_of_another_ca_register_themselves_while_there_is_a_rule(self):
        pki = fixture.scratch() / "pki"
        script("generate", pki, "--agent", "web-1", "--agent", "db-1", "--organisation", "Example")
        with fixture.Hub() as hub:
            mine = pki / "agents/web-1"
            shutil.copy(hub.admin / "ca-cert.pem", mine / "ca-cert.pem")
            shutil.copy(hub.admin / "ca-cert.pem", pki / "agents/db-1/ca-cert.pem")
            hub.ctl("certs", "trust", "corp", pki / "agents-ca-cert.pem", "--kind", "agent", "--role", "agent", "--cn", "web-*", "--o",
                    "Example", "--may-register", "--yes")
            agent = fixture.Agent(hub, "unused")
            agent.identity, agent.name = mine, "web-1"
            with agent:
                fixture.wait_until(lambda: '"web-1"' in hub.ctl("agents", "list", "--json").stdout, "the foreign agent to stream")
            other = fixture.Agent(hub, "unused-2")
            other.identity, other.name = pki / "agents/db-1", "db-1"
            with other:
                fixture.wait_until(lambda: "CERTIFICATE_UNKNOWN" in other.log or "UNKNOWN" in other.log, "the one without a rule to be refused")
            self.assertNotIn('"db-1"', hub.ctl("agents", "list", "--json").stdout)


if __name__ == "__main__":
    fixture.main()
