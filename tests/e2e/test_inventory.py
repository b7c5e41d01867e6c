# SPDX-License-Identifier: Apache-2.0
"""Inventories: only changes travel, history is kept, differences and finding by operators; hostile uploads; kill -9."""

import json
import pathlib
import queue
import random
import signal
import threading
import time
import unittest

import fixture
import inventory
from fixture import now_us
from inventory import Table, header, messages, packages, part

QUERY = "sentinel.query.v1.QueryService/"
SLY = "\x1b[2J\x07\u009b31m\u202e\nts=now level=info event=forged"


def fleet_packages(n: int, seed: int = 0, **changed: str) -> Table:
    """n packages; some have the version that `changed` says."""
    rand = random.Random(seed)
    rows = [[f"package-{i:05}", f"{i % 9}.{i % 17}-{rand.randrange(1 << 30)}"] for i in range(n)]
    return Table(["name", "version"], [[name, changed.get(name.replace("-", "_"), version)] for name, version in rows])


class Inventory(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = fixture.Hub().start()

    @classmethod
    def tearDownClass(cls):
        cls.hub.stop(expect=0)

    def client(self, name: str):
        client = inventory.Client(self.hub, name)
        self.addCleanup(client.close)
        return client

    def stored(self, answer) -> tuple[int, int]:
        self.assertNotIsInstance(answer, dict, answer)
        return answer.revision, answer.tables_changed

    def get(self, agent: str, **question) -> dict:
        return self.hub.ask(QUERY + "GetInventory", {"agent_id": agent, **question})

    def rows(self, agent: str, table: str, **question) -> list[list[str]]:
        """Over all pages, as the answers have them."""
        rows, token = [], ""
        while True:
            answer = self.get(agent, tables=[table], page_token=token, **question)
            for found in answer.get("tables", []):
                rows += [row["values"] for row in found.get("rows", [])]
            token = answer.get("nextPageToken", "")
            if not token:
                return rows

    def refused(self, answer, code: str, reason: str, field: str | None = None):
        self.assertIsInstance(answer, dict, "it was taken")
        self.assertEqual((answer["code"], answer["reason"]), (code, reason), answer)
        if field is not None:
            self.assertEqual(answer["field"], field, answer)
        return answer

    def test_only_what_changed_travels_and_all_comes_back(self):
        client = self.client("web-1")
        tables = {"packages": fleet_packages(2000), "users": Table(["name", "uid"], [["root", "0"], ["www", "33"]])}
        self.assertEqual(self.stored(client.upload(tables)), (1, 2))
        client.sent_bytes = 0
        self.assertEqual(self.stored(client.upload(tables)), (1, 0))
        self.assertLess(client.sent_bytes, 200)
        tables["users"] = Table(["name", "uid"], [["root", "0"], ["www", "33"], ["new", "1000"]])
        self.assertEqual(self.stored(client.upload(tables)), (2, 1))
        self.assertLess(client.sent_bytes, 2000)
        answer = self.get("web-1", without_rows=True)
        self.assertEqual([(t["name"], t["totalRows"], t["sha256"]) for t in answer["tables"]],
                         [(n, str(len(t.rows)), t.sha256().hex()) for n, t in sorted(tables.items())])
        self.assertIn("confirmedTime", answer)
        for name, table in tables.items():
            self.assertEqual(self.rows("web-1", name), table.rows)
        shown = self.hub.ask(QUERY + "GetAgent", {"agent_id": "web-1"})
        self.assertEqual(shown["inventory"]["revision"], "2")
        # A machine like it: its header is enough.
        other = self.client("web-2")
        self.assertEqual(self.stored(other.send([header(tables)])), (1, 2))

    def test_missing_tables_are_named(self):
        client = self.client("named")
        tables = {f"table {i}": packages((f"named-{i}", "1")) for i in range(40)}
        error = self.refused(client.send([header(tables)]), "FAILED_PRECONDITION", "INVENTORY_TABLES_MISSING")
        self.assertEqual(len(error["missing"]), 32)
        self.assertLess(set(error["missing"]), set(tables))
        some = error["missing"][:3]
        error = self.refused(client.send([header(tables), *(m for n in some for m in messages(n, tables[n]))]),
                             "FAILED_PRECONDITION", "INVENTORY_TABLES_MISSING")
        self.assertFalse(set(some) & set(error["missing"]))
        self.assertIn("no inventory", self.hub.grpcurl(QUERY + "GetInventory", data='{"agent_id":"named"}', check=None).stderr)

    def test_history_with_times_pages_and_tables_that_go(self):
        client, start = self.client("historic"), now_us() - 3600_000_000
        users = Table(["name"], [["root"]])
        for i in range(7):
            tables = {"packages": fleet_packages(300, package_00007=f"v{i}")}
            if i < 4:
                tables["users"] = users
            self.assertEqual(self.stored(client.upload(tables, start + i * 60_000_000))[0], i + 1)
        found, token = [], ""
        while True:
            answer = self.hub.ask(QUERY + "ListInventoryHistory", {"agent_id": "historic", "page_size": 3, "page_token": token})
            found += answer["revisions"]
            token = answer.get("nextPageToken", "")
            if not token:
                break
        self.assertEqual([int(r["revision"]) for r in found], [7, 6, 5, 4, 3, 2, 1])
        self.assertEqual([r.get("tablesRemoved", []) for r in found], [[], [], ["users"], [], [], [], []])
        self.assertEqual(found[-1]["tablesChanged"], ["packages", "users"])
        self.assertTrue(all("confirmedTime" in r for r in found[:1]) and not any("confirmedTime" in r for r in found[1:]))
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime((start + 125_000_000) // 1_000_000)) + "Z"
        self.assertEqual(self.get("historic", at_text=at)["revision"], "3")
        self.assertIn(["package-00007", "v2"], self.rows("historic", "packages", at_text=at))
        ranged = self.hub.ask(QUERY + "ListInventoryHistory", {"agent_id": "historic", "range": {"from": at}})
        self.assertEqual([int(r["revision"]) for r in ranged["revisions"]], [7, 6, 5, 4])
        failed = self.hub.grpcurl(QUERY + "GetInventory", data=json.dumps({"agent_id": "historic", "at_text": "-2h"}), check=None)
        self.assertIn("NotFound", failed.stderr)
        forged = self.hub.grpcurl(QUERY + "ListInventoryHistory", data='{"agent_id":"historic","page_token":"ab"}', check=None)
        self.assertIn("page_token", forged.stderr)

    def test_differences_say_what_an_operator_wants_to_read(self):
        client, start = self.client("differs"), now_us() - 7200_000_000
        before = {"packages": packages(("bash", "5.1"), ("curl", "7.8"), ("kernel", "6.1"), ("kernel", "6.2"), ("openssl", "3.0.2")),
                  "gone": packages(("x", "1")), "same": packages(("y", "1"))}
        after = {"packages": packages(("bash", "5.1"), ("kernel", "6.2"), ("kernel", "6.3"), ("kernel", "6.4"), ("openssl", "3.0.5"),
                                      ("zsh", "5.9")),
                 "new": Table(["a", "b", "c"], [["1", "2", "3"]]), "same": packages(("y", "1"))}
        client.upload(before, start)
        client.upload(after, start + 3600_000_000)
        answer = self.hub.ask(QUERY + "DiffInventory", {"from_agent_id": "differs", "from_text": "-90m"})
        by_name = {t["name"]: t for t in answer["tables"]}
        self.assertEqual(sorted(by_name), ["gone", "new", "packages"])
        self.assertTrue(by_name["gone"]["tableRemoved"] and by_name["new"]["tableAdded"])
        self.assertEqual(by_name["new"]["added"], [{"values": ["1", "2", "3"]}])
        diff = by_name["packages"]
        self.assertEqual(diff["changed"], [{"from": {"values": ["openssl", "3.0.2"]}, "to": {"values": ["openssl", "3.0.5"]}}])
        self.assertEqual([r["values"] for r in diff["removed"]], [["curl", "7.8"], ["kernel", "6.1"]])
        self.assertEqual([r["values"] for r in diff["added"]], [["kernel", "6.3"], ["kernel", "6.4"], ["zsh", "5.9"]])
        shown = self.hub.ctl("inventory", "diff", "differs", "--from", "-90m", "--table", "packages").stdout
        self.assertRegex(shown, r"~ +openssl +3\.0\.2 -> 3\.0\.5")
        self.assertRegex(shown, r"- +curl +7\.8")
        self.assertNotIn("bash", shown)
        told = json.loads(self.hub.ctl("inventory", "diff", "differs", "--from", "-90m", "--json").stdout)
        self.assertEqual([t["table"] for t in told["tables"]], ["gone", "new", "packages"])
        # Between two agents, with other columns: those that both have are compared.
        self.client("differs-2").upload({"packages": Table(["arch", "name", "version"], [["amd64", "bash", "5.1"], ["amd64", "zsh", "6.0"]])})
        answer = self.hub.ask(QUERY + "DiffInventory", {"from_agent_id": "differs", "to_agent_id": "differs-2", "tables": ["packages"]})
        diff = answer["tables"][0]
        self.assertEqual((diff["columns"], diff["columnsAdded"]), (["name", "version"], ["arch"]))
        self.assertEqual(diff["changed"], [{"from": {"values": ["zsh", "5.9"]}, "to": {"values": ["zsh", "6.0"]}}])
        self.assertIn("from_time", self.hub.grpcurl(QUERY + "DiffInventory", data='{"from_agent_id":"differs"}', check=None).stderr)
        self.assertIn("nothing differs", self.hub.ctl("inventory", "diff", "differs", "--from", "-10m").stdout)

    def test_answers_larger_than_a_message_come_in_pages(self):
        client, start = self.client("large"), now_us() - 60_000_000
        before = Table(["key", "text"], [[f"{i:06}", "x" * 200 + str(i)] for i in range(30000)])
        after = Table(["key", "text"], [[f"{i:06}", "y" * 200 + str(i)] for i in range(30000)])
        self.stored(client.upload({"a": before, "b": packages(("after", "it"))}, start))
        self.assertEqual(self.rows("large", "a"), before.rows)
        self.stored(client.upload({"a": after, "b": packages(("after", "it"))}))
        changed, token, n_pages = [], "", 0
        while True:
            answer = self.hub.ask(QUERY + "DiffInventory", {"from_agent_id": "large", "from_text": "-10s", "page_token": token})
            self.assertEqual(answer["tables"][0]["totalChanged"], "30000")
            changed += answer["tables"][0].get("changed", [])
            token, n_pages = answer.get("nextPageToken", ""), n_pages + 1
            if not token:
                break
        self.assertGreater(n_pages, 2)
        self.assertEqual([(c["from"]["values"], c["to"]["values"]) for c in changed], list(zip(before.rows, after.rows)))
        shown = json.loads(self.hub.ctl("inventory", "show", "large", "--all", "--json").stdout)
        self.assertEqual({t["name"]: t["rows"] for t in shown["tables"]}, {"a": after.rows, "b": [["after", "it"]]})

    def test_find_who_has_it(self):
        for i in range(6):
            version = "3.0.2" if i % 3 == 0 else "3.0.5"
            self.client(f"find-{i}").upload({"pkgs": Table(["name", "version", "arch"], [
                ["openssl", version, "amd64"], [f"only-{i}", "1", "all"], ["kernel", "6.1", "amd64"], ["kernel", "6.2", "amd64"]])})
        self.hub.ctl("agents", "label", "find-3", "tier=db")

        def find(*matches, **question):
            found, token = [], ""
            while True:
                answer = self.hub.ask(QUERY + "FindInventory", {"table": "pkgs", "match": list(matches), "page_token": token, **question})
                found += answer.get("matches", [])
                token = answer.get("nextPageToken", "")
                if not token:
                    return [(m["agentId"], [r["values"] for r in m["rows"]]) for m in found]
        name, old = {"column": "name", "value": "openssl"}, {"column": "version", "value": "3.0.2"}
        self.assertEqual([a for a, _ in find(name)], [f"find-{i}" for i in range(6)])
        self.assertEqual([a for a, _ in find(name, page_size=2)], [f"find-{i}" for i in range(6)])
        self.assertEqual(find(name, old), [(f"find-{i}", [["openssl", "3.0.2", "amd64"]]) for i in (0, 3)])
        self.assertEqual([a for a, _ in find(name, old, agents={"labels": {"tier": "db"}})], ["find-3"])
        self.assertEqual([a for a, _ in find(old)], ["find-0", "find-3"])
        self.assertEqual(find({"column": "name", "pattern": "only-4"}), [("find-4", [["only-4", "1", "all"]])])
        self.assertEqual([a for a, _ in find({"column": "name", "pattern": "*nly-?"})], [f"find-{i}" for i in range(6)])
        self.assertEqual(find({"column": "name", "pattern": "kern*"}, agents={"ids": ["find-1"]}),
                         [("find-1", [["kernel", "6.1", "amd64"], ["kernel", "6.2", "amd64"]])])
        self.assertEqual(find({"column": "name", "value": "none"}), [])
        # The two conditions hold in one row, not each in some row.
        self.assertEqual(find({"column": "name", "value": "kernel"}, {"column": "arch", "value": "all"}), [])
        told = self.hub.ctl("inventory", "find", "pkgs", "name=openssl", "version=3.0.*", "--agent", "find-*")
        self.assertEqual(len(told.stdout.splitlines()), 7, told.stdout)
        self.assertIn("6 agents", told.stderr)
        told = json.loads(self.hub.ctl("inventory", "find", "pkgs", "name=openssl", "version=3.0.2", "--json").stdout)
        self.assertEqual([m["agent"] for m in told["matches"]], ["find-0", "find-3"])
        self.assertIn("no agent", self.hub.ctl("inventory", "find", "pkgs", "name=nothing").stderr)
        self.assertIn("it has: name, version, arch", self.hub.ctl("inventory", "find", "pkgs", "nmae=x", check=3).stderr)
        self.assertIn("pakages", self.hub.ctl("inventory", "find", "pakages", "name=x", check=3).stderr)

    def test_uploads_that_break_a_rule_are_refused_by_name_and_nothing_stays(self):
        client = self.client("hostile")
        good = packages(("a", "1"), ("b", "2"))
        head = header({"t": good})
        t = fixture.stubs().telemetry

        def hashed(**fields):
            return t.UploadInventoryRequest(header=t.InventoryHeader(time_unix_us=now_us(), tables=[t.InventoryTableHash(
                **{"name": "t", "sha256": good.sha256(), "rows": 2, **fields})]))
        bad = "INVALID_ARGUMENT", "BAD_INVENTORY"
        for requests, field in (
                ([part("t", ["a"], [])], "header"),
                ([], "header"),
                ([t.UploadInventoryRequest()], None),
                ([head, head], "header"),
                ([hashed(name="")], "header.tables[0].name"),
                ([hashed(name="n" * 65)], "header.tables[0].name"),
                ([hashed(sha256=b"short")], "header.tables[0].sha256"),
                ([hashed(rows=3), *messages("t", good)], "header.tables[0].rows"),
                ([hashed(sha256=b"\0" * 32), *messages("t", good)], "header.tables[0].sha256"),
                ([t.UploadInventoryRequest(header=t.InventoryHeader(time_unix_us=now_us(), tables=[
                    t.InventoryTableHash(name="t", sha256=b"\0" * 32), t.InventoryTableHash(name="t", sha256=b"\1" * 32)]))],
                 "header.tables"),
                ([head, part("other", ["name", "version"], good.rows)], "table.name"),
                ([head, part("t", [], good.rows)], "table.columns"),
                ([head, part("t", ["name", "name"], good.rows)], "table.columns"),
                ([head, part("t", ["name", ""], good.rows)], "table.columns[1]"),
                ([head, part("t", ["name", "version"], [["a"]])], "table.rows[0].values"),
                ([head, part("t", ["name", "version"], [["a", "1", "x"]])], "table.rows[0].values"),
                ([head, part("t", ["name", "version"], [["b", "2"], ["a", "1"]])], "table.rows[1]"),
                ([head, part("t", ["name", "version"], [["b", "2"]], False), part("t", [], [["a", "1"]])], "table.rows[0]"),
                ([head, part("t", ["name", "version"], [["a", "1"]], False), part("t", ["name"], [["b", "2"]])], "table.columns"),
                ([head, part("t", ["name", "version"], [["a", "1"]], False), part("u", ["x"], [])], "table.name"),
                ([head, part("t", ["name", "version"], [["a", "1"]], False)], "table.is_last"),
                ([head, *messages("t", good), *messages("t", good)], "table.name")):
            self.refused(client.send(requests), *bad, field)
        for time_us in (1, now_us() - 400 * 86400_000_000, now_us() + 7200_000_000, -(1 << 63), (1 << 63) - 1):
            self.refused(client.send([header({"t": good}, time_us)]), "INVALID_ARGUMENT", "TIME_OUT_OF_RANGE", "header.time_unix_us")
        many = {f"t{i}": good for i in range(65)}
        self.assertEqual(self.refused(client.send([header(many)]), "RESOURCE_EXHAUSTED", "LIMIT")["quota"], "inventory.tables")
        for table, quota in ((Table([f"c{i}" for i in range(65)], []), "inventory.columns"),
                             (Table(["v"], [["x" * 4097]]), "inventory.value_size")):
            error = self.refused(client.send([header({"t": table}), *messages("t", table)]), "RESOURCE_EXHAUSTED", "LIMIT")
            self.assertEqual(error["quota"], quota)
        huge = Table(["v"], [["x" * 4000 + f"{i:06}"] for i in range(4500)])
        error = self.refused(client.send([header({"t": huge}), *messages("t", huge, 500)]), "RESOURCE_EXHAUSTED", "LIMIT")
        self.assertEqual(error["quota"], "inventory.table_size")
        # Raw bytes: what is no UTF-8, what is no message.
        call = client.channel.stream_unary("/sentinel.telemetry.v1.TelemetryService/UploadInventory")
        for data, reason in ((b"\x12\x09\x0a\x01\xff\x12\x04abcd", "BAD_TEXT"), (b"\xff\xff\xff", "MALFORMED")):
            import grpc
            with self.assertRaises(grpc.RpcError) as caught:
                call(iter([data]), timeout=30)
            self.assertEqual(fixture.rich(caught.exception)["reason"], reason)
        self.assertEqual(self.hub.ctl("inventory", "show", "hostile", check=3).stdout, "")
        # After all that it is still served.
        self.assertEqual(self.stored(client.upload({"t": good})), (1, 1))

    def test_many_tiny_rows_fit_a_message(self):
        tiny = Table(["k", "v"], [[f"{i:x}", ""] for i in range(50000)])
        client = self.client("tiny")
        self.assertEqual(self.stored(client.send([header({"t": tiny}), *messages("t", tiny, 50000)])), (1, 1))

    def test_rows_of_empty_values_fit_messages_that_are_not_large(self):
        sparse = Table([f"c{i}" for i in range(64)], [[f"{i:05}"] + [""] * 63 for i in range(3000)])
        odd = Table([f"c{i}" for i in range(49)], [[""] * 49 for i in range(2000)])
        empty = Table(["v"], [[""]] * 200000)
        tables, each = {"sparse": sparse, "odd": odd, "empty": empty}, {"sparse": 1500, "odd": 2000, "empty": 50000}
        client = self.client("sparse")
        self.assertEqual(self.stored(client.send([header(tables), *(m for n in tables for m in messages(n, tables[n], each[n]))])), (1, 3))
        for name, table in tables.items():
            self.assertEqual(self.rows("sparse", name), table.rows)

    def test_an_operator_does_not_upload_and_an_agent_does_not_ask(self):
        client = inventory.Client(self.hub, "admin", self.hub.admin)
        self.addCleanup(client.close)
        self.assertEqual(client.send([header({})])["code"], "PERMISSION_DENIED")
        agent = self.client("asks")
        denied = self.hub.grpcurl(QUERY + "GetInventory", data='{"agent_id":"asks"}', identity=agent.identity, check=None)
        self.assertIn("PermissionDenied", denied.stderr)

    def test_control_characters_are_data_and_do_not_reach_the_terminal(self):
        client, start = self.client("sly"), now_us() - 60_000_000
        sly = Table([SLY, "b"], [[SLY, "1"], [SLY + "2", SLY]])
        self.stored(client.upload({SLY[:20]: packages(("x", SLY)), "t": sly}, start))
        self.stored(client.upload({SLY[:20]: packages(("y", SLY)), "t": Table([SLY, "b"], [[SLY, "2"]])}))
        self.assertEqual(self.rows("sly", "t", at_text="-30s"), sly.rows)

        def harmless(text: str):
            self.assertFalse([c for c in text if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c == "\u202e"], text)
            self.assertFalse([line for line in text.splitlines() if line.startswith("ts=now")], text)
        for words in (["show", "sly"], ["show", "sly", "--all"], ["show", "sly", "t"], ["diff", "sly", "--from", "-30s"],
                      ["history", "sly"], ["find", "t", "b=?"], ["find", "t", f"{SLY}=*"], ["find", SLY, "a=b"], ["show", SLY],
                      ["show", "sly", SLY], ["find", "t", "b=?", "--json"], ["show", "sly", "--all", "--json"]):
            done = self.hub.ctl("inventory", *words, check=None)
            self.assertIn(done.returncode, (0, 3), (words, done.stderr))
            harmless(done.stdout)
            harmless(done.stderr)
        harmless(self.hub.log)

    def test_uploads_by_grpcurl(self):
        import base64
        table = packages(("typed", "by hand"))
        typed = "\n".join(json.dumps(m) for m in (
            {"header": {"time_unix_us": now_us(), "tables": [
                {"name": "packages", "sha256": base64.b64encode(table.sha256()).decode(), "rows": 1}]}},
            {"table": {"name": "packages", "columns": table.columns, "rows": [{"values": r} for r in table.rows], "is_last": True}}))
        identity = self.hub.issue("agent", "by-hand")
        answer = json.loads(self.hub.grpcurl("sentinel.telemetry.v1.TelemetryService/UploadInventory", identity=identity,
                                             data=typed).stdout)
        self.assertEqual(answer, {"revision": "1", "tablesChanged": 1})
        self.assertEqual(self.rows("by-hand", "packages"), [["typed", "by hand"]])


class Limits(unittest.TestCase):
    def hold(self, client, *requests):
        """An upload that says this and then nothing, until the hub ends it or the test is over."""
        over = threading.Event()
        self.addCleanup(over.set)

        def said():
            yield from requests
            over.wait()
        return client.stub.UploadInventory.future(said(), timeout=fixture.PATIENCE)

    def test_an_upload_that_does_not_end_is_ended(self):
        hub = fixture.Hub()
        (hub.home / "config.yaml").write_text("inventory:\n  upload_time: 1s\n")
        hub.flags = ["--config", str(hub.home / "config.yaml")]
        self.addCleanup(hub.stop)
        hub.start()
        client, table = inventory.Client(hub, "web-1"), packages(("a", "1"))
        self.addCleanup(client.close)
        call = self.hold(client, header({"t": table}), part("t", table.columns, table.rows, False))
        error = fixture.rich(call.exception())
        self.assertEqual((error["code"], error["reason"]), ("ABORTED", "INVENTORY_TOO_SLOW"), error)
        self.assertNotIsInstance(client.upload({"t": table}), dict)

    def test_one_agent_has_a_few_uploads_open_and_others_go_on(self):
        hub = fixture.Hub()
        self.addCleanup(hub.stop)
        hub.start()
        client, table = inventory.Client(hub, "web-1"), packages(("a", "1"))
        self.addCleanup(client.close)
        calls = [self.hold(client, header({"t": table})) for _ in range(5)]
        ends: queue.Queue = queue.Queue()
        for call in calls:
            call.add_done_callback(lambda call: ends.put(fixture.rich(call.exception())))
        error = ends.get(timeout=fixture.PATIENCE)
        self.assertEqual((error["code"], error["reason"]), ("RESOURCE_EXHAUSTED", "INVENTORY_BUSY"), error)
        other = inventory.Client(hub, "web-2")
        self.addCleanup(other.close)
        self.assertNotIsInstance(other.upload({"t": table}), dict)
        self.assertTrue(ends.empty())

    def test_limits_are_settings_and_history_is_trimmed(self):
        hub = fixture.Hub()
        (hub.home / "config.yaml").write_text("inventory:\n  rows: 3\n  revisions: 3\n  upload_size: 100KiB\n  max_size: 1MiB\n")
        hub.flags = ["--config", str(hub.home / "config.yaml")]
        self.addCleanup(hub.stop)
        hub.start()
        client = inventory.Client(hub, "web-1")
        self.addCleanup(client.close)
        for i in range(6):
            self.assertEqual(client.upload({"t": packages(("a", str(i)))}).revision, i + 1)
        listed = json.loads(hub.ctl("inventory", "history", "web-1", "--json").stdout)
        self.assertEqual([r["revision"] for r in listed["revisions"]], [6, 5, 4])
        error = client.upload({"t": packages(("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"))})
        self.assertEqual((error["code"], error["quota"]), ("RESOURCE_EXHAUSTED", "inventory.rows"))
        big = {f"t{i}": Table(["v"], [[f"{i}" + "x" * 4000], [f"{i}" + "y" * 4000]]) for i in range(14)}
        error = client.upload(big)
        self.assertEqual((error["code"], error["quota"]), ("RESOURCE_EXHAUSTED", "inventory.upload_size"))
        # All together: until it says so.
        rand = random.Random(1)
        error = None
        for i in range(20):
            more = inventory.Client(hub, f"more-{i}")
            self.addCleanup(more.close)
            answer = more.upload({f"t{k}": Table(["v"], [["".join(chr(rand.randrange(0x4E00, 0x9FFF)) for _ in range(1300))]])
                                  for k in range(20)})
            if isinstance(answer, dict):
                error = answer
                break
        self.assertEqual((error["code"], error["quota"]), ("RESOURCE_EXHAUSTED", "inventory.max_size"), error)
        (hub.home / "config.yaml").write_text("inventory:\n  rows: 10\n  revisions: 3\n  max_size: 1MiB\n")
        hub.process.send_signal(signal.SIGHUP)
        fixture.wait_until(lambda: "event=reloaded" in hub.log, "the reload")
        self.assertNotIsInstance(client.upload({"t": packages(("a", "5"))}), dict)


class Durable(unittest.TestCase):
    def judge(self, hub, sent: dict[str, list[dict[str, Table]]]):
        """Of each agent: what was answered last, then what got no answer. One of them is there."""
        for agent, uploads in sent.items():
            shown = json.loads(hub.ctl("inventory", "show", agent, "--all", "--json").stdout)
            told = {t["name"]: t["rows"] for t in shown["tables"]}
            self.assertIn(told, [{n: t.rows for n, t in tables.items()} for tables in uploads])

    def verify(self, hub):
        done = fixture.run(fixture.program("sentinel-hub"), "verify", "--state-dir", hub.state, "--json")
        self.assertEqual(json.loads(done.stdout)["n_damaged"], 0)

    def one(self, rand: random.Random) -> dict[str, Table]:
        return {"packages": fleet_packages(400, seed=rand.randrange(3), package_00011=str(rand.random())),
                "users": Table(["name"], [[f"u{rand.randrange(100)}"]])}

    def test_kill_between_and_within_uploads(self):
        hub, rand = fixture.Hub(), random.Random(5)
        self.addCleanup(hub.stop)
        hub.start()
        clients = [inventory.Client(hub, f"web-{i}") for i in range(4)]
        for client in clients:
            self.addCleanup(client.close)
        sent: dict[str, list[dict[str, Table]]] = {c.name: [] for c in clients}
        for _ in range(5):
            for client in clients:
                for _ in range(2):
                    sent[client.name] = [self.one(rand)]
                    self.assertNotIsInstance(client.upload(sent[client.name][0]), dict)
            # One upload more that is cut: no answer is no promise, either way.
            cut = self.one(rand)
            sent[clients[0].name].append(cut)
            call = clients[0].stub.UploadInventory.future(iter([header(cut), *(m for n in cut for m in messages(n, cut[n]))]), timeout=30)
            hub.kill()
            call.exception()
            hub.start()
            for client in clients:
                client.close()
                client.connect()
            self.judge(hub, sent)
            self.verify(hub)

    def test_every_fault_point(self):
        if b"faultpoint:" not in pathlib.Path(fixture.program("sentinel-hub", fixture.FAULTS)).read_bytes():
            self.skipTest("SENTINEL_FAULTS names no build with fault points")
        hub, rand = fixture.Hub(build=fixture.FAULTS), random.Random(6)
        self.addCleanup(hub.stop)
        hub.start()
        client = inventory.Client(hub, "web-1")
        self.addCleanup(lambda: client.close())
        last = self.one(rand)
        client.upload(last)
        for point in ("inventory_before_commit", "inventory_after_commit"):
            for pas in (1, 2):
                hub.kill()
                hub.start(env={"SENTINEL_FAULT": f"{point}:{pas}"})
                client.close()
                client.connect()
                for _ in range(pas - 1):
                    last = self.one(rand)
                    self.assertNotIsInstance(client.upload(last), dict)
                cut = self.one(rand)
                self.assertIsInstance(client.upload(cut), dict, "the hub was to die")
                self.assertEqual(hub.wait_exit(), -9)
                hub.start()
                client.close()
                client.connect()
                # Behind the commit it is there, though nobody heard of it.
                self.judge(hub, {"web-1": [cut] if point == "inventory_after_commit" else [last]})
                self.verify(hub)
                client.upload(last)

    def test_backup_and_restore_have_the_inventories(self):
        hub, rand = fixture.Hub(), random.Random(7)
        self.addCleanup(hub.stop)
        hub.start()
        client = inventory.Client(hub, "web-1")
        self.addCleanup(client.close)
        sent = [self.one(rand) for _ in range(3)]
        for tables in sent:
            client.upload(tables)
        place, state = hub.home / "backup", hub.home / "restored"
        fixture.run(fixture.program("sentinel-hub"), "backup", "--to", place, "--state-dir", hub.state)
        stats = json.loads(fixture.run(fixture.program("sentinel-hub"), "stats", "--state-dir", hub.state, "--json").stdout)
        self.assertEqual((stats["inventory"]["agents"], stats["inventory"]["revisions"]), (1, 3))
        hub.stop(expect=0)
        fixture.run(fixture.program("sentinel-hub"), "restore", "--from", place, "--state-dir", state)
        again = fixture.Hub(state=state)
        self.addCleanup(again.stop)
        again.start()
        self.judge(again, {"web-1": sent[-1:]})
        self.verify(again)
        self.assertEqual(len(json.loads(again.ctl("inventory", "history", "web-1", "--json").stdout)["revisions"]), 3)


if __name__ == "__main__":
    fixture.main()
