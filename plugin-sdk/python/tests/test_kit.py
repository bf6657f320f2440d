"""The kit, used by a plugin that runs natively. Run with: python3 -m unittest discover -s tests -t ."""

import contextlib
import io
import json
import unittest
from types import SimpleNamespace

from leanclaw_plugin import Context, PluginFailure
from leanclaw_plugin._bridge import Err
from leanclaw_plugin.skill import skill, tool
from leanclaw_plugin.testing import Request, TestFailure, TestHost, TestResponse

from .fixtures import everything as plugin


class Tools(unittest.TestCase):
    def setUp(self) -> None:
        self.host = TestHost(remaining_ms=7, caller={"kind": "client"}, settings={"limit": 3}, secrets={"KEY": b"k"})

    def call(self, name: str, **arguments: object):
        return self.host.call_tool(plugin.Skill, name, arguments)

    def refused(self, code: str, name: str, **arguments: object) -> PluginFailure:
        with self.assertRaises(PluginFailure) as raised:
            self.call(name, **arguments)
        self.assertEqual(raised.exception.code, code)
        return raised.exception

    def test_tools_are_listed_with_schemas_from_their_types(self) -> None:
        tools = {record.name: record for record in plugin.Skill().tools()}
        schema = json.loads(tools["typed"].input_schema)
        self.assertEqual(schema["required"], ["shape"])
        self.assertEqual(schema["additionalProperties"], False)
        self.assertEqual(schema["properties"]["mode"], {"enum": ["fast", "exact"], "default": "fast"})
        shape = schema["properties"]["shape"]
        self.assertEqual(shape["required"], ["name", "points"])
        self.assertEqual(shape["properties"]["name"], {"type": "string", "description": "What it is called", "maxLength": 20})
        self.assertEqual(shape["properties"]["color"], {"enum": ["red", "blue"], "default": "red"})
        self.assertEqual(shape["properties"]["note"], {"anyOf": [{"type": "string"}, {"type": "null"}]})
        self.assertEqual(json.loads(tools["typed"].output_schema), shape)
        self.assertEqual((tools["typed"].effects, tools["typed"].idempotent), (["reads"], True))
        self.assertIsNone(tools["text"].output_schema)
        self.assertNotIn("context", json.loads(tools["text"].input_schema)["properties"])

    def test_arguments_arrive_as_their_types_and_results_leave_as_json(self) -> None:
        shape = {"name": "t", "points": [{"x": 1}, {"x": 2, "y": 3.5}], "color": "blue", "note": "n"}
        answer = self.call("typed", shape=shape, mode="exact", weights={"a": 1})
        self.assertEqual(
            answer.structured,
            {"name": "t exact {'a': 1}", "points": [{"x": -1, "y": 0}, {"x": -2, "y": -3.5}], "color": "blue", "note": None},
        )

    def test_input_that_does_not_fit_is_refused_with_its_place(self) -> None:
        point = {"x": 1}
        for shape, message in [
            ({"name": "t", "points": point}, "input.shape.points must be a list."),
            ({"name": "t", "points": [{"x": "1"}]}, "input.shape.points[0].x must be of type number."),
            ({"name": "t", "points": [{"x": True}]}, "input.shape.points[0].x must be of type number."),
            ({"points": []}, "input.shape.name must be given."),
            ({"name": "t", "points": [], "nmae": 1}, "input.shape.nmae must be absent: it is not known."),
            ({"name": "t", "points": [], "color": "green"}, "input.shape.color must be one of the known values."),
            ({"name": "t", "points": [], "note": 1}, "input.shape.note must be of type string."),
        ]:
            self.assertEqual(self.refused("invalid-input", "typed", shape=shape).message, message)

    def test_a_handler_answers_text_files_or_an_error_to_read(self) -> None:
        self.assertEqual(self.call("text", who="ü").text, "test-call client 7 ü")
        self.assertEqual(self.call("files").files, [("text/csv", "ä,1".encode())])
        sorry = self.call("sorry")
        self.assertEqual((sorry.text, sorry.structured, sorry.is_error), ("Could not.", {"reason": 1}, True))

    def test_failures_keep_their_code_and_anything_else_is_internal(self) -> None:
        failure = self.refused("rate-limited", "fail")
        self.assertEqual((failure.retryable, failure.retry_after_ms, failure.extra), (True, 50, {"used": 3}))
        with contextlib.redirect_stderr(io.StringIO()) as log:
            self.assertEqual(self.refused("internal", "crash").message, "LookupError: oops")
        self.assertIn("in crash", log.getvalue())
        self.refused("not-found", "absent")

    def test_progress_streamed_text_and_cancellation(self) -> None:
        self.assertEqual(self.call("stream").text, "done")
        self.assertEqual((self.host.progress, self.host.emitted_text), ([(1, 2, "half")], "ab"))
        self.host.cancelled = True
        self.refused("cancelled", "stream")

    def test_the_store(self) -> None:
        self.assertEqual(
            self.call("store").structured,
            {"first": 1, "code": "conflict", "text": "text", "json": [1], "counted": [1, 2], "keys": ["b", "n"], "deleted": [True, False], "gone": True},
        )

    def test_fetch(self) -> None:
        def answer(request: Request) -> TestResponse:
            return TestResponse(201, '\ufeff{"ö": 1}', {"Content-Type": "application/json"})

        self.host.http = answer
        structured = self.call("fetch", url="https://api.example.com/x", payload={"é": 1}).structured
        self.assertEqual(structured, {"ok": True, "status": 201, "type": "application/json", "body": {"ö": 1}})
        [request] = self.host.requests
        self.assertEqual((request.method, request.timeout_ms, json.loads(request.body)), ("POST", 1500, {"é": 1}))
        self.assertEqual(request.headers, {"authorization": "Bearer {{secret:KEY}}", "content-type": "application/json"})

        def late(request: Request) -> TestResponse:
            raise TestFailure("timed-out", "Too late.", retryable=True)

        self.host.http = late
        self.assertTrue(self.refused("timed-out", "fetch", url="https://x/").retryable)
        self.host.http = None
        self.refused("denied", "fetch", url="https://x/")

    def test_secrets_log_events_and_settings(self) -> None:
        self.assertEqual(self.call("sign", message="m").structured, {"known": True, "valid": True, "forged": False, "length": 32})
        self.assertEqual(self.call("report", what="x").structured, {"limit": 3})
        self.assertEqual(self.host.log, [("warn", "seen", {"what": "x", "count": "2"})])
        self.assertEqual(self.host.events, [("seen", {"what": "x"})])

    def test_mistakes_in_a_definition_stop_the_build(self) -> None:
        def undocumented() -> str:
            return ""

        def untyped(a) -> str:
            """Documented."""
            return a

        def strange(a: complex) -> str:
            """Documented."""
            return str(a)

        async def waiting() -> str:
            """Documented."""
            return ""

        def fine() -> str:
            """Documented."""
            return ""

        for function, message in [
            (undocumented, "needs a description"),
            (untyped, "needs a type"),
            (strange, "no JSON Schema for <class 'complex'>"),
            (waiting, "is async"),
        ]:
            with self.assertRaisesRegex(TypeError, message):
                tool()(function)
        with self.assertRaisesRegex(TypeError, "needs a name"):
            tool(name="no spaces")(fine)
        with self.assertRaisesRegex(TypeError, "Two tools are called fine"):
            skill(tool()(fine), tool()(fine))
        self.assertEqual(tool()(fine)(), "", "a tool is still the function it was")


class OtherExports(unittest.TestCase):
    def setUp(self) -> None:
        self.host = TestHost()

    def test_methods(self) -> None:
        [record] = plugin.Method().methods()
        self.assertEqual((record.name, record.scope), ("notes.add", "operator.write"))
        self.assertEqual(json.loads(record.result_schema)["type"], "object")
        self.assertEqual(self.host.call_method(plugin.Method, "notes.add", {"text": "ß"}), {"text": "ß", "urgent": False})
        with self.assertRaises(PluginFailure):
            self.host.call_method(plugin.Method, "other", {})

    def test_hooks_deny_rewrite_or_let_pass(self) -> None:
        self.assertEqual(plugin.Hook().events(), ["before-send", "message-received"])
        denied = self.host.call_hook(plugin.Hook, "before-send", {"text": "a secret"})
        self.assertEqual((denied.verdict, denied.reason), ("deny", "It names a secret."))
        self.assertEqual(self.host.call_hook(plugin.Hook, "before-send", {"text": "hi"}).verdict, "continue")
        self.assertEqual(self.host.call_hook(plugin.Hook, "message-received", {"text": " a "}).payload, {"text": "a"})
        self.assertEqual(self.host.call_hook(plugin.Hook, "unknown", {}).verdict, "continue")

    def test_every_call_releases_its_context_also_one_that_fails(self) -> None:
        for call in [
            lambda context: plugin.Skill().invoke(context, "files", "{}"),
            lambda context: plugin.Skill().invoke(context, "fail", "{}"),
            lambda context: plugin.Method().invoke(context, "notes.add", '{"text": "a"}'),
            lambda context: plugin.Hook().handle(context, "before-send", '{"text": "a"}'),
        ]:
            context = self.host.context()
            self.assertEqual(context.id(), "test-call")
            with contextlib.suppress(Err):
                call(context)
            with self.assertRaises(AttributeError):
                context.id()

    def test_a_context_that_a_handler_kept_is_refused_after_its_call(self) -> None:
        with Context(self.host.context()) as kept:
            self.assertEqual(kept.id, "test-call")
        with self.assertRaisesRegex(RuntimeError, "a call that has ended"):
            _ = kept.id

    def test_a_channel_delivers_and_takes_webhooks(self) -> None:
        self.assertEqual(self.host.deliver(plugin.Channel, "hi", place="room").message_id, "room:hi")
        with self.assertRaises(PluginFailure) as raised:
            self.host.deliver(plugin.Channel, "hi", idempotency_key="bad")
        self.assertEqual(raised.exception.retry_after_ms, 1000)
        post = {"headers": {"X-Id": "7"}, "body": '{"text":"hé"}'.encode()}
        reply = self.host.webhook(plugin.Webhook, **post)
        self.assertEqual((reply.status, reply.body, reply.headers[0].name), (202, b"accepted", "content-type"))
        self.assertEqual(self.host.webhook(plugin.Webhook, **post).body, b"duplicate")
        self.assertEqual(self.host.inbox[0].parts[0].text, "hé")
        self.assertEqual(self.host.webhook(plugin.Webhook, method="GET").status, 405)

    def test_a_channel_acts_and_says_what_it_cannot(self) -> None:
        place = SimpleNamespace(id="room", kind="direct", thread=None, title=None, extra=None)
        self.assertEqual(plugin.ChannelActions().perform("typing", place, '{"for":3}'), '{"place": "room", "for": 3}')
        with self.assertRaises(Err) as raised:
            plugin.ChannelActions().perform("dance", place, "{}")
        self.assertEqual(raised.exception.value.code, "unsupported")

    def test_a_poll_asks_and_takes_answers_and_failures(self) -> None:
        asked = plugin.Poll().next()
        self.assertEqual((asked.wait_ms, asked.request.method, asked.request.body), (5, "GET", "ä".encode()))
        self.assertEqual([(header.name, header.value) for header in asked.request.headers], [("x-since", b"1")])
        self.assertIsNone(plugin.Poll().next().request, "nothing to ask now")
        with self.assertRaises(Err):
            plugin.Poll().next()
        self.host.call_hook(plugin.Hook, "unknown", {})
        plugin.Poll().received(SimpleNamespace(value=SimpleNamespace(status=200, headers=[], body=b'\xef\xbb\xbf{"news":1}')))
        failure = SimpleNamespace(code="unavailable", message="No.", retryable=True, retry_after_ms=None, extra=None)
        plugin.Poll().received(Err(failure))
        self.assertEqual(self.host.events, [("polled", {"news": 1}), ("polled", "unavailable")])

    def test_a_socket_reacts(self) -> None:
        target = plugin.Socket().target()
        self.assertEqual((target.url, target.headers[0].name, target.protocols), ("wss://example.com", "x-a", ["chat"]))
        text = plugin.Socket().received(SimpleNamespace(kind="text", data="hé".encode()))
        self.assertEqual([(frame.kind, frame.data) for frame in text.send], [("text", "HÉ".encode()), ("binary", b"more")])
        self.assertEqual((text.wake_after_ms, text.close), (9, False))
        binary = plugin.Socket().received(SimpleNamespace(kind="binary", data=b"12"))
        self.assertEqual((binary.send[0].kind, binary.send[0].data), ("binary", b"21"))
        for nothing in [plugin.Socket().opened(), plugin.Socket().received(SimpleNamespace(kind="text", data=b"quiet"))]:
            self.assertEqual((nothing.send, nothing.wake_after_ms, nothing.close), ([], None, False))
        self.assertTrue(plugin.Socket().woken().close)
        self.assertIsNone(plugin.Socket().closed(1006, ""))


if __name__ == "__main__":
    unittest.main()
