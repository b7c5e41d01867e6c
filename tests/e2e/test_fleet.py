# SPDX-License-Identifier: Apache-2.0
"""An operator asks about a fleet: labels that select, who makes the cardinality, rates and quantiles over agents, pages."""

import json
import os
import unittest

import fixture
from fixture import batch, gauge, now_us

QUERY = "sentinel.query.v1.QueryService/"
SET_LABELS = "sentinel.admin.v1.AdminService/SetAgentLabels"
N_AGENTS, N_ROWS = 6, 30


def counter(series_id: int, name: str, **attributes):
    series = gauge(series_id, name, **attributes)
    series.kind = fixture.stubs().telemetry.KIND_COUNTER
    return series


class Fleet(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()
        cls.start = (now_us() // 60_000_000 - 5) * 60_000_000
        for agent in range(N_AGENTS):
            stream = fixture.Stream(cls.hub, cls.hub.issue("agent", f"web-{agent}")).hello(os.urandom(16))
            stream.welcome()
            series = [gauge(1, "fleet.load"), counter(2, "fleet.requests")]
            series += [gauge(3 + i, "fleet.disk", device=f"sd{i}") for i in range(agent + 1)]
            ids = [s.id for s in series]
            # The counter grows by 2 a second and starts again from 0 at the eleventh sample.
            stream.send(batch=batch(1, series, [(1, ids)], [
                (cls.start + i * 10_000_000, 1, [float(agent), 20.0 * (i if i < 10 else i - 10)] + [1.0] * (agent + 1))
                for i in range(N_ROWS)]))
            stream.ack(1)
            stream.end()

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def query(self, **question):
        return self.hub.ask(QUERY + "QueryMetrics", {"range": {"from": "-10m"}, "step_text": "1m", **question})

    def agents(self, **selector) -> list[str]:
        return [a["agentId"] for a in self.hub.ask(QUERY + "ListAgents", {"agents": selector}).get("agents", [])]

    # ---- labels ----

    def test_labels_are_set_seen_at_once_used_to_select_and_removed(self):
        answer = self.hub.ask(SET_LABELS, {"agents": {"ids": ["web-0", "web-1"]}, "set": {"role": "db", "rack": "r 1"}})
        self.assertEqual(answer, {"changed": 2, "selected": 2})
        self.assertEqual(self.agents(labels={"role": "db"}), ["web-0", "web-1"])
        listed = self.hub.ask(QUERY + "ListAgents", {"agents": {"ids": ["web-1"]}})["agents"]
        self.assertEqual(listed[0]["labels"], {"role": "db", "rack": "r 1"})
        self.assertEqual(self.hub.ask(SET_LABELS, {"agents": {"labels": {"role": "db"}}, "set": {"role": "db"}}), {"selected": 2})
        self.assertEqual(self.hub.ask(SET_LABELS, {"agents": {"ids": ["web-1"]}, "remove": ["role", "nothing"]})["changed"], 1)
        self.assertEqual(self.agents(labels={"role": "db"}), ["web-0"])
        self.assertEqual(self.agents(labels={"rack": "r 1"}, pattern="*-1"), ["web-1"])
        self.assertEqual(self.agents(labels={"rack": "r 1", "role": "db"}, ids=["web-0", "web-1"]), ["web-0"])
        self.assertEqual(self.agents(labels={"rack": "other"}), [])
        self.assertEqual(len(self.query(name="fleet.load", agents={"labels": {"rack": "r 1"}})["series"]), 2)
        self.assertIn("agent_labels_set", self.hub.log)

    def test_a_bad_label_is_refused_with_its_field_and_nothing_changes(self):
        for question, field in (({"set": {"": "x"}}, "set"), ({"set": {"_x": "x"}}, "set"), ({"set": {"a b": "x"}}, "set"),
                                ({"set": {"x" * 64: "x"}}, "set"), ({"set": {"x": ""}}, "set"), ({"set": {"x": "y" * 256}}, "set"),
                                ({"set": {"x": "\x1b[2J"}}, "set"), ({"remove": ["ä"]}, "remove"),
                                ({"set": {"x": "y"}, "remove": ["x"]}, "remove"), ({}, "set"),
                                ({"set": {f"k{i}": "v" for i in range(65)}}, "set")):
            failed = self.hub.grpcurl(SET_LABELS, data=json.dumps({"agents": {"ids": ["web-5"]}, **question}), check=None)
            self.assertIn("InvalidArgument", failed.stderr, question)
            self.assertIn(field, failed.stderr)
        failed = self.hub.grpcurl(SET_LABELS, data=json.dumps({"set": {"x": "y"}}), check=None)
        self.assertIn("agents", failed.stderr)
        failed = self.hub.grpcurl(SET_LABELS, data=json.dumps({"agents": {"pattern": "zzz*"}, "set": {"x": "y"}}), check=None)
        self.assertIn("NotFound", failed.stderr)
        failed = self.hub.grpcurl(SET_LABELS, data=json.dumps({"agents": {"pattern": "web-[45]"}, "set": {"x": "y"}}), check=None)
        self.assertIn("NotFound", failed.stderr)
        many = {"agents": {"pattern": "web-5"}, "set": {f"k{i}": "v" for i in range(33)}}
        failed = self.hub.grpcurl(SET_LABELS, data=json.dumps(many), check=None)
        self.assertIn("ResourceExhausted", failed.stderr)
        self.assertIn("web-5", failed.stderr)
        self.assertNotIn("labels", self.hub.ask(QUERY + "GetAgent", {"agent_id": "web-5"})["agent"])

    def test_an_agent_may_not_label(self):
        failed = self.hub.grpcurl(SET_LABELS, data=json.dumps({"agents": {"pattern": "*"}, "set": {"x": "y"}}),
                                  identity=self.hub.issue("agent", "sly"), check=None)
        self.assertIn("PermissionDenied", failed.stderr)

    def test_sentinelctl_labels_and_selects(self):
        self.assertEqual(self.hub.ctl("agents", "label", "web-[23]", "x=y", check=3).stdout, "")
        self.assertIn("2 of 2 agents", self.hub.ctl("agents", "label", "web-?", "tier=gold", "old-", "--agent", "web-2", "--agent",
                                                    "web-3").stdout)
        self.assertEqual(json.loads(self.hub.ctl("agents", "label", "*", "site=a=b", "--label", "tier=gold", "--json").stdout),
                         {"selected": 2, "changed": 2})
        self.assertIn("tier=gold", self.hub.ctl("agents", "list").stdout)
        self.assertEqual(json.loads(self.hub.ctl("agents", "show", "web-2", "--json").stdout)["labels"],
                         {"site": "a=b", "tier": "gold"})
        gold = ("--label", "tier=gold", "--json")
        self.assertEqual([a["agent"] for a in json.loads(self.hub.ctl("agents", "list", *gold).stdout)["agents"]], ["web-2", "web-3"])
        self.assertEqual(json.loads(self.hub.ctl("metrics", "list", "fleet.load", *gold).stdout)["metrics"][0]["agents"], 2)
        self.assertEqual(len(json.loads(self.hub.ctl("metrics", "query", "fleet.load", *gold).stdout)["series"]), 2)
        self.assertEqual(len(json.loads(self.hub.ctl("metrics", "plot", "fleet.load", *gold).stdout)["series"]), 2)
        self.assertEqual(json.loads(self.hub.ctl("metrics", "top", *gold).stdout)["series"], (2 + 3) + (2 + 4))
        self.assertIn("1 of 1 agent changed", self.hub.ctl("agents", "label", "web-2", "tier-").stdout)
        self.assertIn("KEY-", self.hub.ctl("agents", "label", "web-2", "tier", check=2).stderr)
        self.hub.ctl("agents", "label", "web-2", "tier=", check=2)
        self.hub.ctl("agents", "label", "nobody", "tier=x", check=3)
        self.hub.ctl("agents", "label", "web-2", check=2)

    # ---- top ----

    def test_top_names_metrics_agents_and_attributes(self):
        n_disk = sum(range(1, N_AGENTS + 1))
        top = self.hub.ask(QUERY + "TopMetrics", {"agents": {"pattern": "web-*"}, "name_pattern": "fleet.*"})
        self.assertEqual(top["rows"][0], {"name": "fleet.disk", "series": str(n_disk), "definitions": N_AGENTS, "agents": N_AGENTS})
        self.assertEqual([r["name"] for r in top["rows"]], ["fleet.disk", "fleet.load", "fleet.requests"])
        self.assertEqual((top["total"], top["series"], top["definitions"]), (3, str(n_disk + 2 * N_AGENTS), N_AGENTS + 2))
        top = self.hub.ask(QUERY + "TopMetrics", {"agents": {"pattern": "web-*"}, "by": "TOP_BY_AGENT"})
        self.assertEqual([r["name"] for r in top["rows"]], [f"web-{i}" for i in reversed(range(N_AGENTS))])
        self.assertEqual(top["rows"][0]["series"], str(2 + N_AGENTS))
        row, = self.hub.ask(QUERY + "TopMetrics", {"agents": {"pattern": "web-*"}, "by": "TOP_BY_ATTRIBUTE"})["rows"]
        self.assertEqual(row, {"name": "device", "series": str(n_disk), "definitions": N_AGENTS, "values": str(N_AGENTS),
                               "metric": "fleet.disk"})

    def test_top_comes_in_pages(self):
        question, seen = {"agents": {"pattern": "web-*"}, "by": "TOP_BY_AGENT", "page_size": 4}, []
        while True:
            page = self.hub.ask(QUERY + "TopMetrics", question)
            seen += [r["name"] for r in page["rows"]]
            if "nextPageToken" not in page:
                break
            question["page_token"] = page["nextPageToken"]
        self.assertEqual(seen, [f"web-{i}" for i in reversed(range(N_AGENTS))])
        failed = self.hub.grpcurl(QUERY + "TopMetrics", data=json.dumps({**question, "by": "TOP_BY_METRIC"}), check=None)
        self.assertIn("page_token", failed.stderr)
        self.assertIn("InvalidArgument", self.hub.grpcurl(QUERY + "TopMetrics", data='{"by": 9}', check=None).stderr)

    def test_sentinelctl_top(self):
        text = self.hub.ctl("metrics", "top").stdout
        for word in ("METRIC", "fleet.disk", "AGENT", "web-5", "ATTRIBUTE", "device", "distinct sets"):
            self.assertIn(word, text)
        rows = json.loads(self.hub.ctl("metrics", "top", "fleet.*", "--by", "metric", "--top", "1", "--json").stdout)
        self.assertEqual([r["metric"] for r in rows["metrics"]], ["fleet.disk"])
        self.assertIn("--top N shows more", self.hub.ctl("metrics", "top", "--by", "agent", "--top", "2").stdout)
        self.assertIn("attribute", self.hub.ctl("metrics", "top", "--by", "size", check=2).stderr)

    # ---- ranges over many agents ----

    def test_a_rate_over_the_fleet_passes_over_the_reset(self):
        answer = self.query(name="fleet.requests", group_all=True)
        self.assertEqual(answer["aggregation"], "AGGREGATION_RATE")
        values = [p["value"] for p in answer["series"][0]["points"]]
        self.assertEqual(len(values), 5)
        # 20 in 10 s of every agent; in the second minute one delta of six, the reset, is 0.
        self.assertEqual(values[0], 2 * N_AGENTS)
        self.assertAlmostEqual(values[1], 2 * N_AGENTS * 5 / 6)
        self.assertEqual(values[2:], [2 * N_AGENTS] * 3)

    def test_quantiles_top_k_and_groups(self):
        answer = self.query(name="fleet.load", aggregation="AGGREGATION_LAST", group_all=True,
                            group_aggregation="AGGREGATION_QUANTILE", quantile=0.5)
        self.assertEqual({p["value"] for p in answer["series"][0]["points"]}, {(N_AGENTS - 1) / 2})
        answer = self.query(name="fleet.load", top_k=2)
        self.assertEqual([s["labels"]["agent"] for s in answer["series"]], ["web-4", "web-5"])
        answer = self.query(name="fleet.disk", agents={"pattern": "web-*"}, group_by=["device"], group_aggregation="AGGREGATION_COUNT")
        self.assertEqual([(s["labels"]["device"], s["points"][0]["value"]) for s in answer["series"]],
                         [(f"sd{i}", N_AGENTS - i) for i in range(N_AGENTS)])
        done = json.loads(self.hub.ctl("metrics", "query", "fleet.load", "--all", "--group-agg", "p100", "--json").stdout)
        self.assertEqual({p[1] for p in done["series"][0]["points"]}, {N_AGENTS - 1})
        self.hub.ctl("metrics", "query", "fleet.load", "--agg", "p101", check=2)

    def test_pages_hold_the_range_of_the_first_while_samples_arrive(self):
        question, seen, ranges = {"name": "fleet.disk", "page_size": 4}, [], set()
        late = self.hub.issue("agent", "late")
        while True:
            page = self.query(**question)
            ranges.add((page["fromTime"], page["toTime"]))
            seen += [(s["labels"]["agent"], s["labels"]["device"]) for s in page["series"]]
            stream = fixture.Stream(self.hub, late).hello(os.urandom(16))
            stream.welcome()
            stream.send(batch=batch(1, [gauge(1, "fleet.disk", device="a")], [(1, [1])], [(self.start, 1, [1.0])]))
            stream.ack(1)
            stream.end()
            if "nextPageToken" not in page:
                break
            question["page_token"] = page["nextPageToken"]
        self.assertEqual(len(ranges), 1)
        self.assertEqual(seen, [(f"web-{a}", f"sd{d}") for a in range(N_AGENTS) for d in range(a + 1)])

    def test_a_long_name_is_cut_between_characters(self):
        import grpc
        s = fixture.stubs()
        stub = s.query_grpc.QueryServiceStub(self.hub.channel(self.hub.admin))
        with self.assertRaises(grpc.RpcError) as caught:
            stub.QueryMetrics(s.query.QueryMetricsRequest(name="x" + "ä" * 200))
        told = fixture.rich(caught.exception)
        self.assertEqual((told["code"], told["reason"]), ("NOT_FOUND", "NOT_FOUND"))
        self.assertIn("xäää", told["message"])

    def test_too_much_says_what_to_narrow(self):
        failed = self.hub.grpcurl(QUERY + "QueryMetrics", data=json.dumps(
            {"name": "fleet.load", "range": {"from": "-30d"}, "step_text": "1s"}), check=None)
        self.assertIn("ResourceExhausted", failed.stderr)
        self.assertIn("a longer step", failed.stderr)
        failed = self.hub.grpcurl(QUERY + "QueryMetrics", data=json.dumps({"name": "fleet.load", "page_size": 5001}), check=None)
        self.assertIn("page_size", failed.stderr)


if __name__ == "__main__":
    fixture.main()
