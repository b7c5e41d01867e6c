# SPDX-License-Identifier: Apache-2.0
"""Who gets in: the wrong certificate fails in the handshake, none is UNAUTHENTICATED, another role is PERMISSION_DENIED."""

import os
import unittest

import fixture


class Handshake(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def call(self, identity, roots=None) -> dict:
        import grpc
        s = fixture.stubs()
        channel = self.hub.channel(identity, roots)
        self.addCleanup(channel.close)
        try:
            s.query_grpc.QueryServiceStub(channel).ListAgents(s.query.ListAgentsRequest(), timeout=20)
            return {"code": "OK"}
        except grpc.RpcError as failure:
            return fixture.rich(failure)

    def test_an_operator_gets_in(self):
        self.assertEqual(self.call(self.hub.admin)["code"], "OK")
        self.assertEqual(self.call(self.hub.issue("operator", "vera", "--role", "viewer"))["code"], "OK")

    def test_another_ca_fails_in_the_handshake_and_is_counted(self):
        before = int(self.hub.ask("sentinel.admin.v1.AdminService/GetStatus").get("handshakesFailed", 0))
        stranger = fixture.Hub().issue("operator", "stranger")
        self.assertEqual(self.call(stranger, roots=self.hub.admin / "ca-cert.pem")["code"], "UNAVAILABLE")
        failed = self.hub.grpcurl("list", identity=self.mixed(stranger), check=None)
        self.assertNotEqual(failed.returncode, 0)
        after = int(self.hub.ask("sentinel.admin.v1.AdminService/GetStatus").get("handshakesFailed", 0))
        self.assertGreater(after, before)

    def mixed(self, identity):
        """The stranger's key and certificate, with our root to trust."""
        directory = fixture.scratch()
        for name in ("client-cert.pem", "client-key.pem"):
            (directory / name).write_bytes((identity / name).read_bytes())
        (directory / "ca-cert.pem").write_bytes((self.hub.admin / "ca-cert.pem").read_bytes())
        return directory

    def test_an_expired_certificate_fails_in_the_handshake(self):
        expired = self.mixed(self.hub.admin)
        fixture.sign(self.hub, "agents", expired, "late", days=-1, usage="clientAuth")
        self.assertEqual(self.call(expired)["code"], "UNAVAILABLE")

    def test_no_certificate_is_unauthenticated_with_the_remedy(self):
        error = self.call(None)
        self.assertEqual((error["code"], error["reason"]), ("UNAUTHENTICATED", "CERTIFICATE_MISSING"))
        self.assertIn("certificate", error["message"])

    def test_no_certificate_is_enough_for_health(self):
        s = fixture.stubs()
        health = s.health_grpc.HealthStub(self.hub.channel())
        self.assertEqual(health.Check(s.health.HealthCheckRequest(), timeout=20).status, s.health.HealthCheckResponse.SERVING)

    def test_an_agent_may_not_ask_and_an_operator_may_not_push(self):
        agent = self.hub.issue("agent", "curious")
        error = self.call(agent)
        self.assertEqual((error["code"], error["reason"]), ("PERMISSION_DENIED", "ROLE_MISSING"))
        stream = fixture.Stream(self.hub, self.hub.admin).hello(os.urandom(16))
        self.addCleanup(stream.close)
        self.assertEqual(stream.error()["code"], "PERMISSION_DENIED")

    def test_a_certificate_of_our_ca_that_the_registry_does_not_know_is_unauthenticated(self):
        import shutil
        twin = fixture.Hub(state=self.hub.home / "twin-of-nothing")
        for name in os.listdir(twin.state / "certs"):
            shutil.copy(self.hub.state / "certs" / name, twin.state / "certs" / name)
        foreign = twin.issue("operator", "unregistered")
        error = self.call(foreign)
        self.assertEqual((error["code"], error["reason"]), ("UNAUTHENTICATED", "CERTIFICATE_UNKNOWN"))

    def test_a_viewer_may_not_do_what_an_admin_may(self):
        import grpc
        s = fixture.stubs()
        viewer = self.hub.issue("operator", "viewer-only", "--role", "viewer")
        with self.assertRaises(grpc.RpcError) as caught:
            s.admin_grpc.AdminServiceStub(self.hub.channel(viewer)).Reload(s.admin.ReloadRequest(), timeout=20)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.PERMISSION_DENIED)

    def test_plaintext_is_refused_without_the_flag(self):
        done = fixture.run(fixture.program("sentinel-hub"), "run", "--state-dir", self.hub.state, "--listen-grpc", "127.0.0.1:0",
                           env={"SENTINEL_HUB_SECURITY": "insecure"}, check=None)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("--insecure", done.stderr)

    def test_a_loose_key_file_is_refused_with_the_command_that_mends_it(self):
        identity = self.hub.issue("operator", "loose")
        (identity / "client-key.pem").chmod(0o644)
        done = self.hub.ctl("status", identity=identity, check=None)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("chmod", done.stderr)

    def test_openssl_sees_tls_13_and_the_chain(self):
        done = fixture.run("openssl", "s_client", "-connect", f"127.0.0.1:{self.hub.port}", "-CAfile", self.hub.admin / "ca-cert.pem",
                           "-alpn", "h2", "-verify_return_error", "-verify_ip", "127.0.0.1", check=None)
        self.assertIn("TLSv1.3", done.stdout)
        self.assertIn("Verify return code: 0 (ok)", done.stdout)
        self.assertIn("ALPN protocol: h2", done.stdout)


if __name__ == "__main__":
    fixture.main()
