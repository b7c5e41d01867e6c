# SPDX-License-Identifier: Apache-2.0
"""A person with grpcurl: everything is found, described and answered as JSON, and refusals say what to do."""

import base64
import json
import os
import unittest

import fixture
from fixture import batch, gauge, now_us


class Grpcurl(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()
        cls.agent = cls.hub.issue("agent", "web-1")
        stream = fixture.Stream(cls.hub, cls.agent).hello(os.urandom(16))
        stream.welcome()
        start = now_us() - 60_000_000
        for i in range(1, 31):
            declare = i == 1
            stream.send(batch=batch(
                i, [gauge(1, "test.load", core="0"), gauge(2, "test.load", core="1")] if declare else [],
                [(1, [1, 2])] if declare else [], [(start + i * 1_000_000, 1, [float(i), 10.0 * i])]))
        stream.ack(30)
        stream.end()

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def test_list_names_what_is_built_and_nothing_else(self):
        services = self.hub.grpcurl("list").stdout.split()
        for service in ("grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
                        "sentinel.query.v1.QueryService", "sentinel.telemetry.v1.TelemetryService"):
            self.assertIn(service, services)
        self.assertNotIn("sentinel.control.v1.ControlService", services)

    def test_describe_shows_the_service_with_its_rules(self):
        text = self.hub.grpcurl("describe", "sentinel.telemetry.v1.TelemetryService").stdout
        self.assertIn("rpc StreamMetrics ( stream .sentinel.telemetry.v1.StreamMetricsRequest )", text)
        for symbol in ("sentinel.query.v1.QueryMetricsRequest", "sentinel.query.v1.QueryService.ListAgents",
                       "google.protobuf.Timestamp", "sentinel.telemetry.v1.Kind"):
            self.assertIn(symbol.rsplit(".", 1)[-1], self.hub.grpcurl("describe", symbol).stdout)
        self.assertIn("Symbol not found", self.hub.grpcurl("describe", "sentinel.Nothing", check=None).stderr)

    def test_list_agents(self):
        answer = self.hub.ask("sentinel.query.v1.QueryService/ListAgents", {"agents": {"pattern": "web-*"}})
        self.assertEqual([a["agentId"] for a in answer["agents"]], ["web-1"])
        self.assertEqual(answer["total"], 1)
        self.assertNotIn("nextPageToken", answer)

    def test_get_agent_has_its_runs(self):
        answer = self.hub.ask("sentinel.query.v1.QueryService/GetAgent", {"agent_id": "web-1"})
        self.assertEqual(answer["agent"]["samplesStored"], "60")
        self.assertEqual([r["lastSequence"] for r in answer["runs"]], ["30"])
        failed = self.hub.grpcurl("sentinel.query.v1.QueryService/GetAgent", data='{"agent_id":"nobody"}', check=None)
        self.assertIn("NotFound", failed.stderr)

    def test_list_metrics(self):
        metric, = self.hub.ask("sentinel.query.v1.QueryService/ListMetrics", {"name_pattern": "test.*"})["metrics"]
        self.assertEqual((metric["name"], metric["unit"], metric["kind"], metric["series"]), ("test.load", "1", "GAUGE", 2))
        self.assertEqual(metric["attributes"], [{"key": "core", "values": ["0", "1"]}])

    def test_query_metrics_groups_and_aggregates(self):
        question = {"name": "test.load", "range": {"from": "-5m", "to": "now"}, "step_text": "10m"}
        expected = {"AVG": 15.5, "MIN": 1, "MAX": 30, "SUM": 465, "COUNT": 30, "LAST": 30}
        for name, value in expected.items():
            answer = self.hub.ask("sentinel.query.v1.QueryService/QueryMetrics",
                                  {**question, "aggregation": f"AGGREGATION_{name}", "attributes": {"core": "0"}})
            series, = answer["series"]
            self.assertEqual(series["labels"], {"agent": "web-1", "core": "0"})
            values = [float(p["value"]) for p in series["points"]]
            got = sum(values) if name in ("SUM", "COUNT") else values[-1] if len(values) == 1 or name in ("LAST", "MAX") else None
            if got is not None:
                self.assertEqual(got, value, name)
        by_core = self.hub.ask("sentinel.query.v1.QueryService/QueryMetrics",
                               {**question, "step_text": "1s", "aggregation": "AGGREGATION_LAST", "group_by": ["core"]})
        self.assertEqual([s["labels"] for s in by_core["series"]], [{"core": "0"}, {"core": "1"}])
        together = self.hub.ask("sentinel.query.v1.QueryService/QueryMetrics",
                                {**question, "step_text": "1s", "aggregation": "AGGREGATION_LAST",
                                 "group_aggregation": "AGGREGATION_SUM", "group_all": True})
        self.assertEqual([float(p["value"]) for p in together["series"][0]["points"]], [11.0 * i for i in range(1, 31)])

    def test_a_bad_question_names_the_field(self):
        for question, words in (({}, "name"), ({"name": "test.load", "range": {"from": "yesterday-ish"}}, "range.from"),
                                ({"name": "test.load", "range": {"from": "now", "to": "-1h"}}, "range")):
            failed = self.hub.grpcurl("sentinel.query.v1.QueryService/QueryMetrics", data=json.dumps(question), check=None)
            self.assertIn("InvalidArgument", failed.stderr)
            self.assertIn(words, failed.stderr)

    def test_a_stream_typed_as_json_gets_its_welcome_and_its_ack(self):
        spool = base64.b64encode(os.urandom(16)).decode()
        typed = "\n".join(json.dumps(m) for m in (
            {"hello": {"spool_id": spool, "first_sequence": 1, "last_sequence": 1, "instance": spool, "time_unix_us": now_us()}},
            {"batch": {"sequence": 1, "series": [{"id": 1, "name": "typed.by.hand", "unit": "1", "kind": "KIND_GAUGE"}],
                       "layouts": [{"id": 1, "series_ids": [1]}],
                       "scrapes": [{"time_unix_us": now_us(), "layout_id": 1, "values": [42]}]}}))
        identity = self.hub.issue("agent", "by-hand")
        answer = self.hub.grpcurl("sentinel.telemetry.v1.TelemetryService/StreamMetrics", identity=identity, data=typed).stdout
        self.assertIn('"welcome"', answer)
        self.assertIn('"ack"', answer)
        self.assertEqual([v for _, v in fixture.points(self.hub, "typed.by.hand", "by-hand")], [42])

    def test_health_check_list_and_watch(self):
        self.assertEqual(self.hub.ask("grpc.health.v1.Health/Check"), {"status": "SERVING"})
        listed = self.hub.ask("grpc.health.v1.Health/List")["statuses"]
        self.assertEqual(listed["sentinel.query.v1.QueryService"], {"status": "SERVING"})
        failed = self.hub.grpcurl("grpc.health.v1.Health/Check", data='{"service":"nothing"}', check=None)
        self.assertIn("NotFound", failed.stderr)
        s = fixture.stubs()
        watch = s.health_grpc.HealthStub(self.hub.channel()).Watch(s.health.HealthCheckRequest(service="nothing"), timeout=30)
        self.assertEqual(next(watch).status, s.health.HealthCheckResponse.SERVICE_UNKNOWN)
        watch.cancel()

    def test_what_is_not_built_says_unimplemented(self):
        s = fixture.stubs()
        import grpc
        with self.assertRaises(grpc.RpcError) as caught:
            s.control_grpc.ControlServiceStub(self.hub.channel(self.hub.admin)).ListSessions(s.control.ListSessionsRequest())
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED)

    def test_pages_of_agents(self):
        hub = self.hub
        for name in ("page-a", "page-b", "page-c"):
            stream = fixture.Stream(hub, hub.issue("agent", name)).hello(os.urandom(16))
            stream.welcome()
            stream.end()
        seen, token = [], ""
        while True:
            answer = hub.ask("sentinel.query.v1.QueryService/ListAgents",
                             {"agents": {"pattern": "page-*"}, "page_size": 2, "page_token": token})
            seen += [a["agentId"] for a in answer["agents"]]
            token = answer.get("nextPageToken", "")
            if not token:
                break
        self.assertEqual(seen, ["page-a", "page-b", "page-c"])
        failed = hub.grpcurl("sentinel.query.v1.QueryService/ListAgents", data='{"page_token":"forged"}', check=None)
        self.assertIn("page_token", failed.stderr)


if __name__ == "__main__":
    fixture.main()
