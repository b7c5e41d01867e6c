# SPDX-License-Identifier: Apache-2.0
"""Certificates by hand (the scripts of certs/), keys at rest, the list of revoked ones, and what `production` takes; each is looked
at with openssl too, which is not ours."""

import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import unittest

import fixture

SCRIPTS = fixture.ROOT / "certs"
OPENSSL = shutil.which("openssl")


def script(name, *words, check=0, env=None):
    return fixture.run(SCRIPTS / name, *words, check=check, env={"SENTINEL_HUB": fixture.program("sentinel-hub"), **(env or {})})


def openssl(*words, check=0):
    return fixture.run(OPENSSL, *words, check=check)


def serial_of(path) -> str:
    return openssl("x509", "-in", path, "-noout", "-serial").stdout.strip()


@unittest.skipUnless(OPENSSL, "openssl looks at what we make")
class ByHand(unittest.TestCase):
    def setUp(self):
        self.pki = fixture.scratch() / "pki"

    def generate(self, *words):
        return script("generate", self.pki, "--name", "hub.example.org", "--agent", "web-1", "--operator", "vera", *words)

    def test_generate_makes_a_hierarchy_that_openssl_verifies(self):
        self.generate("--organisation", "Example", "--trust-domain", "example.org")
        for leaf, ca in (("hub/server-cert.pem", "hubs-ca"), ("agents/web-1/client-cert.pem", "agents-ca"),
                         ("operators/vera/client-cert.pem", "agents-ca")):
            openssl("verify", "-x509_strict", "-CAfile", self.pki / "ca-cert.pem", "-untrusted", self.pki / f"{ca}-cert.pem",
                    self.pki / leaf)
        text = openssl("x509", "-in", self.pki / "agents/web-1/client-cert.pem", "-noout", "-subject", "-ext", "subjectAltName").stdout
        self.assertIn("spiffe://example.org/agent/web-1", text)
        self.assertIn("Example", text)
        for key in self.pki.rglob("*-key.pem"):
            self.assertEqual(key.stat().st_mode & 0o777, 0o600, key)

    def test_generate_again_adds_and_overwrites_nothing(self):
        self.generate()
        before = {path: path.read_bytes() for path in self.pki.rglob("*.pem")}
        self.assertIn("web-2", script("generate", self.pki, "--agent", "web-1", "--agent", "web-2").stdout)
        self.assertEqual({path: path.read_bytes() for path in before}, before)
        self.assertTrue((self.pki / "agents/web-2/client-key.pem").exists())

    def test_rotate_makes_anew_within_the_grace_and_keeps_the_old(self):
        self.generate("--life", "10d")
        leaf = self.pki / "agents/web-1/client-cert.pem"
        old, old_key = serial_of(leaf), (self.pki / "agents/web-1/client-key.pem").read_bytes()
        self.assertIn("0 made anew", script("rotate", self.pki, "--grace", "5d").stderr)
        self.assertFalse((self.pki / "backup").exists())
        self.assertIn("3 made anew", script("rotate", self.pki, "--grace", "30d").stderr)
        self.assertNotEqual(serial_of(leaf), old)
        (backup,) = (self.pki / "backup").iterdir()
        self.assertRegex(backup.name, r"^\d{4}-\d\d-\d\dT")
        self.assertEqual(serial_of(backup / "agents/web-1/client-cert.pem"), old)
        self.assertEqual((backup / "agents/web-1/client-key.pem").read_bytes(), old_key)
        self.assertEqual((backup / "agents/web-1/client-key.pem").stat().st_mode & 0o777, 0o600)
        for path in ("agents/web-1", "operators/vera", "hub"):
            script("verify", self.pki / path)

    def test_show_says_what_openssl_says(self):
        self.generate()
        shown = script("show", self.pki / "agents/web-1").stdout
        leaf = self.pki / "agents/web-1/client-cert.pem"
        self.assertIn(serial_of(leaf).split("=")[1].lower(), shown)
        digest = openssl("x509", "-in", leaf, "-noout", "-fingerprint", "-sha256").stdout.split("=")[1].strip().replace(":", "").lower()
        self.assertIn(digest, shown)
        self.assertIn("Sentinel Agents CA", shown)
        script("show", self.pki / "none", check=3)

    def test_verify_names_what_is_wrong_and_the_remedy(self):
        self.generate()
        web = self.pki / "agents/web-1"
        self.assertIn("good as a client's", script("verify", web).stdout)
        self.assertIn("good as a hub's", script("verify", self.pki / "hub", "--host", "hub.example.org").stdout)
        self.assertIn("hub.example.org", script("verify", self.pki / "hub", "--host", "evil.example.org", check=1).stderr)
        (web / "client-key.pem").chmod(0o644)
        self.assertIn("chmod 600", script("verify", web, check=1).stderr)
        (web / "client-key.pem").chmod(0o600)
        shutil.copy(self.pki / "operators/vera/client-key.pem", web / "client-key.pem")
        self.assertIn("not the one", script("verify", web, check=1).stderr)
        other = fixture.scratch() / "pki"
        script("generate", other, "--agent", "web-1")
        self.assertNotEqual(script("verify", web / "client-cert.pem", "--roots", other / "ca-cert.pem", check=None).returncode, 0)

    def test_sealed_keys_and_bad_words(self):
        key = fixture.scratch() / "ca-key"
        key.write_bytes(os.urandom(32))
        key.chmod(0o400)
        self.generate("--ca-key-file", key)
        self.assertIn("SEALED", (self.pki / "ca-key.pem").read_text())
        self.assertIn("ca.key_file", script("generate", self.pki, "--agent", "web-2", check=1).stderr)
        script("generate", self.pki, "--agent", "web-2", "--ca-key-file", key)
        script("generate", self.pki, "--agent", "Web_2", "--ca-key-file", key, check=2)
        script("rotate", self.pki, "--grace", "soon", check=2)
        script("rotate", fixture.scratch(), check=3)


@unittest.skipUnless(OPENSSL, "openssl looks at what we make")
class AtTheHub(unittest.TestCase):
    def crl(self, hub) -> pathlib.Path:
        raw = socket.create_connection(("127.0.0.1", hub.https_port), timeout=fixture.PATIENCE)
        context = ssl.create_default_context(cafile=str(hub.admin / "ca-cert.pem"))
        with context.wrap_socket(raw, server_hostname="localhost") as tls:
            tls.sendall(b"GET /crl HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            answer = b""
            while some := tls.recv(65536):
                answer += some
        head, body = answer.split(b"\r\n\r\n", 1)
        self.assertIn(b"200 OK", head)
        self.assertIn(b"content-type: application/pkix-crl", head.lower())
        self.assertIn(b"max-age=60", head.lower())
        path = hub.home / "list.crl"
        path.write_bytes(body)
        return path

    def test_the_list_of_revoked_certificates_verifies_and_has_the_revoked_one(self):
        with fixture.Hub(init=("--name", "hub.example.org")) as hub:
            web = hub.issue("agent", "web-1")
            text = openssl("x509", "-in", web / "client-cert.pem", "-noout", "-ext", "crlDistributionPoints").stdout
            self.assertIn("https://hub.example.org:8081/crl", text)
            path = self.crl(hub)
            ca = hub.state / "certs" / "agents-ca-cert.pem"
            self.assertIn("verify OK", openssl("crl", "-inform", "DER", "-in", path, "-CAfile", ca, "-noout").stderr)
            serial = serial_of(web / "client-cert.pem").split("=")[1]
            self.assertNotIn(serial, openssl("crl", "-inform", "DER", "-in", path, "-noout", "-text").stdout)
            hub.ctl("agents", "revoke", "web-1", "--yes")
            path = self.crl(hub)
            self.assertIn("verify OK", openssl("crl", "-inform", "DER", "-in", path, "-CAfile", ca, "-noout").stderr)
            self.assertIn(serial, openssl("crl", "-inform", "DER", "-in", path, "-noout", "-text").stdout)
            roots = hub.home / "with.pem"
            roots.write_bytes((hub.state / "certs/ca-cert.pem").read_bytes() + ca.read_bytes())
            pem = hub.home / "list.pem"
            openssl("crl", "-inform", "DER", "-in", path, "-out", pem)
            done = openssl("verify", "-crl_check", "-CAfile", roots, "-CRLfile", pem, web / "client-cert.pem", check=None)
            self.assertIn("revoked", done.stdout + done.stderr)

    def test_a_hub_with_sealed_keys_serves_without_the_key_and_issues_with_it(self):
        key = fixture.scratch() / "ca-key"
        key.write_text(os.urandom(32).hex() + "\n")
        key.chmod(0o600)
        with fixture.Hub(init=("--ca-key-file", str(key))) as hub:
            self.assertEqual(hub.ctl("status").returncode, 0)
            self.assertNotIn("ca_keys_unsealed", hub.log)
            out = hub.home / "web-1"
            argv = (fixture.program("sentinel-hub"), "issue", "agent", "web-1", "--out", out, "--state-dir", hub.state)
            self.assertIn("is sealed", fixture.run(*argv, check=1).stderr)
            fixture.run(*argv, env={"SENTINEL_HUB_CA_KEY": key.read_text().strip()})
        fresh = fixture.scratch() / "fresh"
        fresh.write_bytes(os.urandom(32))
        fresh.chmod(0o400)
        seal = (fixture.program("sentinel-hub"), "seal-keys", "--state-dir", hub.state)
        fixture.run(*seal, "--ca-key-file", fresh, check=1)
        fixture.run(*seal, "--ca-key-file", fresh, "--old-key-file", key)
        fixture.run(*argv[:3], "web-2", "--out", hub.home / "web-2", "--state-dir", hub.state, "--ca-key-file", fresh)
        fixture.run(*seal, "--ca-key-file", fresh, "--open")
        self.assertIn("PRIVATE", (hub.state / "certs/ca-key.pem").read_text())
        with hub:
            fixture.wait_until(lambda: "ca_keys_unsealed" in hub.log, "the word that keys lie in the clear")

    def handshake(self, port, identity, version) -> str | None:
        context = ssl.create_default_context(cafile=str(identity / "ca-cert.pem"))
        context.load_cert_chain(identity / "client-cert.pem", identity / "client-key.pem")
        context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        with socket.create_connection(("127.0.0.1", port), timeout=fixture.PATIENCE) as raw:
            with context.wrap_socket(raw, server_hostname="localhost") as tls:
                return tls.version()

    def test_production_speaks_1_3_alone_on_both_ports(self):
        with fixture.Hub(flags=("--security", "production")) as hub:
            for port in (hub.port, hub.https_port):
                self.assertEqual(self.handshake(port, hub.admin, ssl.TLSVersion.TLSv1_3), "TLSv1.3")
                with self.assertRaises(ssl.SSLError):
                    self.handshake(port, hub.admin, ssl.TLSVersion.TLSv1_2)
        refused = fixture.run(fixture.program("sentinel-hub"), "run", "--state-dir", hub.state, "--security", "production",
                              "--metrics-public", "true", check=2)
        self.assertIn("metrics.public", refused.stderr)

    def test_development_speaks_1_2_too(self):
        with fixture.Hub() as hub:
            self.assertEqual(self.handshake(hub.port, hub.admin, ssl.TLSVersion.TLSv1_2), "TLSv1.2")
            self.assertEqual(self.handshake(hub.https_port, hub.admin, ssl.TLSVersion.TLSv1_2), "TLSv1.2")

    def test_a_certificate_that_enrolled_agents_would_refuse_is_not_served(self):
        pki = fixture.scratch() / "pki"
        script("generate", pki, "--name", "hub.example.org")
        own = ("--tls-certificate", str(pki / "hub/server-cert.pem"), "--tls-key", str(pki / "hub/server-key.pem"))
        hub = fixture.Hub(flags=own)
        hub.start()
        hub.stop(expect=0)  # nobody is enrolled yet
        hub.issue("agent", "web-1")
        argv = (fixture.program("sentinel-hub"), "run", "--state-dir", hub.state, "--listen-grpc", "127.0.0.1:0", "--listen-https",
                "off", *own)
        refused = fixture.run(*argv, check=1)
        self.assertIn("1 agents of the registry would refuse it", refused.stderr)
        hub.flags += ["--tls-agents-trust-certificate", "true"]
        hub.start()
        self.assertEqual(hub.stop(), 0)


if __name__ == "__main__":
    fixture.main()
