"""Uses every part of the Python kit. `kits.rs` asks it the same as the plugins beside this one."""

from typing import Any

from leanclaw_plugin import Context, PluginFailure, credentials, events, http, inbox, kv, log, settings
from leanclaw_plugin.blobs import File
from leanclaw_plugin.channel import WebhookReply, WebhookRequest, channel, channel_actions, webhook
from leanclaw_plugin.hook import Decision, deny, hook, replace
from leanclaw_plugin.messages import Inbound, Outbound, Part, Person, Place
from leanclaw_plugin.methods import method, methods
from leanclaw_plugin.poll import PollRequest, PollResponse, PollStep, poll
from leanclaw_plugin.skill import ToolResult, skill, tool
from leanclaw_plugin.socket import Endpoint, Reaction, socket


@method(scope="operator.write")
def store() -> Any:
    """Uses the store."""
    first = kv.put("text", "grüß", if_revision=0)
    code = None
    try:
        kv.put("text", "other", if_revision=0)
    except PluginFailure as failure:
        code = failure.code
    second = kv.put_json("json", {"a": [1]}, if_revision=0, ttl_seconds=600)
    counted = [kv.update_json("count", lambda count: (count or 0) + 1) for _ in range(2)]
    return {
        "code": code,
        "rises": second > first and kv.get("text").revision == first,
        "text": kv.get("text").value.decode(),
        "json": kv.get_json("json").value,
        "counted": counted,
        "keys": [kv.keys(), kv.keys(after="count", limit=1), kv.keys("te")],
        "removed": [kv.delete("text"), kv.delete("text")],
        "gone": kv.get("text") is None,
    }


@method(scope="operator.write")
def ask(url: str, json: Any) -> Any:
    """Sends a request."""
    response = http.fetch(url, headers={"Authorization": "Bearer {{secret:token}}"}, json=json, timeout_ms=30_000)
    first = response.text
    return {
        "ok": response.ok,
        "status": response.status,
        "kind": response.headers["Content-Type"],
        "text": first,
        "again": response.text == first,
    }


@method(scope="operator.write")
def sign(message: str, tag: str) -> Any:
    """Signs and verifies."""
    return {
        "tag": credentials.hmac_sha256("key", message.encode()).hex(),
        "valid": credentials.verify_hmac_sha256("key", message.encode(), bytes.fromhex(tag)),
        "forged": credentials.verify_hmac_sha256("key", f"{message}!".encode(), bytes.fromhex(tag)),
        "known": [credentials.exists("key"), credentials.exists("nothing")],
    }


@method(scope="operator.write")
def tell(what: str) -> Any:
    """Says it in the log and in an event."""
    log.warn("told", what=what, count=2)
    events.emit("seen", {"what": what})
    return settings.get()


@method()
def undeclared() -> None:
    """Emits an event that nobody granted."""
    events.emit("undeclared", {})


@method()
def who(context: Context) -> Any:
    """Tells of the call."""
    context.raise_if_cancelled()
    context.progress(1, 2, "half")
    context.emit_text("a piece")
    return {
        "named": context.id != "",
        "kind": context.caller.kind,
        "scopes": context.caller.scopes,
        "hasTime": context.remaining_ms > 0,
        "cancelled": context.cancelled,
    }


@method()
def fail() -> None:
    """Fails."""
    raise PluginFailure("rate-limited", "Slow down.", retry_after_ms=1500)


@method()
def crash() -> None:
    """Raises what is no PluginFailure."""
    raise LookupError("oops")


Method = methods(store, ask, sign, tell, undeclared, who, fail, crash)


@tool()
def pack(text: str) -> ToolResult:
    """Packs a text into a file."""
    return ToolResult("packed", {"length": len(text)}, [File("text/plain", text)])


Skill = skill(pack)


def before_tool_call(payload: Any, context: Context) -> Decision | None:
    return deny("It is forbidden.") if payload["input"]["text"] == "forbidden" else None


def before_send(message: Any, context: Context) -> Decision | None:
    [part] = message["parts"]
    return None if part["text"] == "quiet" else replace({**message, "parts": [{**part, "text": part["text"].upper()}]})


Hook = hook({"before-tool-call": before_tool_call, "before-send": before_send})


def deliver(message: Outbound) -> str:
    if message.text == "LATER":
        raise PluginFailure("unavailable", "Later.", retry_after_ms=2000)
    kv.put_json(f"sent/{message.idempotency_key}", message.text)
    return f"{message.place.id}:{message.text}"


def take(request: WebhookRequest) -> WebhookReply | int:
    if request.method != "POST":
        return 405
    if not credentials.verify_hmac_sha256("key", request.body, bytes.fromhex(request.headers.get("X-Tag", ""))):
        return WebhookReply(401, "forged")
    given = request.json()
    sender, place = Person("ada", "Ada"), Place("room", "group")
    status = inbox.submit(Inbound(given["id"], sender, place, [Part("text", given["text"])], 5))
    body = f'{{"status":"{status}","query":"{request.query}"}}'
    return WebhookReply(202, body, {"X-Path": request.path, "content-type": "application/json"})


Channel = channel("everything", "Everything", deliver, abilities=("typing",))
Webhook = webhook(take)
ChannelActions = channel_actions({"typing": lambda place, given: {"place": place.id, "seconds": given["seconds"]}})


def following() -> PollStep:
    return PollStep(PollRequest(f"{settings.get()['server']}/updates", headers={"X-Since": "7"}, timeout_ms=30_000), 60_000)


def polled(answer: PollResponse | PluginFailure) -> None:
    if isinstance(answer, PluginFailure):
        events.emit("polled", {"code": answer.code})
    else:
        events.emit("polled", {"status": answer.status, "news": answer.json()["news"]})


Poll = poll(following, polled)


def heard(data: str | bytes) -> Reaction:
    return Reaction([data.upper()]) if isinstance(data, str) else Reaction([data[::-1]], wake_after_ms=50)


Socket = socket(
    lambda: Endpoint(settings.get()["socket"], {"X-Hello": "there"}),
    heard,
    opened=lambda: Reaction(["opened"]),
    woken=lambda: Reaction(["woken"], close=True),
    closed=lambda code, reason: events.emit("closed", {"code": code}),
)
