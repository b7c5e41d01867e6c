# SPDX-License-Identifier: Apache-2.0
"""SIGTERM drains, SIGHUP reloads: live streams lose nothing and double nothing."""

import os
import signal
import ssl
import socket
import unittest

import fixture
from fixture import batch, gauge, now_us


def serial_of(hub) -> str:
    """The serial number of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cafile=str(hub.admin / "ca-cert.pem"))
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", hub.port)) as raw, context.wrap_socket(raw, server_hostname="localhost") as tls:
        return tls.getpeercert()["serialNumber"]


class DrainReload(unittest.TestCase):
    def test_sigterm_acknowledges_what_it_took_and_says_so(self):
        hub = fixture.Hub().start()
        identity, spool = hub.issue("agent", "drained"), os.urandom(16)
        stream = fixture.Stream(hub, identity).hello(spool)
        stream.welcome()
        start = now_us() - 3600_000_000
        n = 300
        for i in range(1, n + 1):
            stream.send(batch=batch(i, [gauge(1, "test.drain")] if i == 1 else [], [(1, [1])] if i == 1 else [],
                                    [(start + i * 1_000_000, 1, [float(i)])]))
            if i == 100:
                stream.ack(1)
                hub.process.send_signal(signal.SIGTERM)
        acked = 1
        import grpc
        try:
            while True:
                response = stream.receive()
                if response.WhichOneof("message") == "ack":
                    acked = response.ack.sequence
        except grpc.RpcError as failure:
            error = fixture.rich(failure)
        self.assertEqual((error["code"], error["reason"]), ("UNAVAILABLE", "HUB_STOPPING"))
        self.assertIsNotNone(error["retry_s"])
        hub.wait_exit(expect=0)
        stream.close()
        hub.start()
        runs = hub.ask("sentinel.query.v1.QueryService/GetAgent", {"agent_id": "drained"})["runs"]
        self.assertEqual(int(runs[0]["lastSequence"]), acked, "what was acknowledged is what is stored")
        stream = fixture.Stream(hub, identity).hello(spool, first=1, last=n)
        resume = stream.welcome().resume_after_sequence
        self.assertEqual(resume, acked)
        for i in range(resume + 1, n + 1):
            first = i == resume + 1
            stream.send(batch=batch(i, [gauge(1, "test.drain")] if first else [], [(1, [1])] if first else [],
                                    [(start + i * 1_000_000, 1, [float(i)])]))
        if resume < n:
            stream.ack(n)
        self.assertEqual(fixture.count_of(hub, "test.drain", "drained"), n)
        stream.close()
        hub.stop(expect=0)

    def test_health_says_not_serving_while_it_drains(self):
        hub = fixture.Hub().start()
        s = fixture.stubs()
        channel = hub.channel()
        watch = s.health_grpc.HealthStub(channel).Watch(s.health.HealthCheckRequest(), timeout=60)
        self.assertEqual(next(watch).status, s.health.HealthCheckResponse.SERVING)
        hub.process.send_signal(signal.SIGTERM)
        self.assertEqual(next(watch).status, s.health.HealthCheckResponse.NOT_SERVING)
        channel.close()
        hub.wait_exit(expect=0)

    def test_sighup_takes_a_new_certificate_and_new_settings_with_live_streams_unharmed(self):
        hub = fixture.Hub()
        config = hub.home / "config.yaml"
        config.write_text("limits:\n  batch_samples: 10\n")
        hub.flags = ["--config", str(config)]
        hub.start()
        stream = fixture.Stream(hub, hub.issue("agent", "steady")).hello(os.urandom(16))
        stream.welcome()
        stream.send(batch=batch(1, [gauge(1, "test.steady")], [(1, [1])], [(now_us(), 1, [1.0])]))
        stream.ack(1)
        before = serial_of(hub)

        certs = hub.state / "certs"
        self.reissue(hub, certs)
        config.write_text("limits:\n  batch_samples: 2\n")
        hub.process.send_signal(signal.SIGHUP)
        fixture.wait_until(lambda: serial_of(hub) != before, "the new certificate")
        fixture.wait_until(lambda: "event=reloaded" in hub.log, "the log to say so")

        stream.send(batch=batch(2, scrapes=[(now_us(), 1, [2.0])]))
        stream.ack(2)
        stream.send(batch=batch(3, scrapes=[(now_us() + i, 1, [3.0]) for i in range(3)]))
        error = stream.error()
        self.assertEqual((error["code"], error["quota"]), ("RESOURCE_EXHAUSTED", "batch_samples"))
        stream.close()

        config.write_text("limits:\n  batch_samplez: 2\n")
        hub.process.send_signal(signal.SIGHUP)
        fixture.wait_until(lambda: "event=reload_failed" in hub.log, "the refusal of the bad file")
        self.assertIn("batch_samples", hub.log.rsplit("event=reload_failed", 1)[1].splitlines()[0])
        self.assertTrue(hub.is_running())
        hub.stop(expect=0)

    def reissue(self, hub, certs):
        """Puts another certificate of the hub's own CA in place, as an operator with openssl would."""
        work = fixture.scratch()
        fixture.sign(hub, "hubs", work, "renewed", days=30, usage="serverAuth,clientAuth")
        for name in ("key", "cert"):
            (certs / f"server-{name}.pem").write_bytes((work / f"client-{name}.pem").read_bytes())


if __name__ == "__main__":
    fixture.main()
