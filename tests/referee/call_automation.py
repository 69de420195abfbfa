"""Reads the Call Automation fixtures with Microsoft's own event models, so that a slip in a fixture is not taken for a fact.

    python tests/referee/call_automation.py tests/fixtures/acs

For each event of each `body.json` it prints one JSON object: case, type, verdict, detail. The verdicts:

- `parsed`: the SDK's model took every member of `data`, each with the value that the body has;
- `no model`: no generally available version of the SDK knows the type; the detail says why that is right;
- `unreadable`: the body is no array or object of events, and `expect.json` wants it refused (400);
- `mismatch`, `error`: the fixture, or what it expects, is wrong.

Exit code: 0 if all is well, 1 on a mismatch or an error, 77 if the SDK is not installed (it is not a dependency of the project:
`pip install azure-communication-callautomation` into a virtual environment outside of it).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

try:
    # Written and run against azure-communication-callautomation 1.6.0 (api-version 2026-03-12); these modules are internal to it.
    from azure.communication.callautomation._generated import models
    from azure.communication.callautomation._generated._utils.serialization import Deserializer, Model
except ImportError as missing:
    print(f"azure-communication-callautomation is not installed, or its internals have moved: {missing}", file=sys.stderr)
    sys.exit(77)

Json = Any

PUBLISHER = "Microsoft.Communication."
COMMON_MEMBERS = {"callConnectionId", "serverCallId", "correlationId", "resultInformation"}
MODELS: dict[str, type] = {name: model for name, model in vars(models).items() if isinstance(model, type)}
READ = Deserializer(MODELS)

# Members that the service writes (or wrote, in the previews of 2022), and that no model has.
UNMODELLED = {"version", "publicEventType", "eventSource", "type", "collectTonesResult"}

PREVIEW_ONLY = {
    *("DialogStarted", "DialogCompleted", "DialogFailed", "DialogConsent", "DialogHangup", "DialogLanguageChange"),
    *("DialogTransfer", "DialogSensitivityUpdate", "PlayPaused", "PlayResumed", "HoldAudioStarted", "HoldAudioPaused"),
    *("HoldAudioResumed", "HoldAudioCompleted", "TranscriptionResumed", "TeamsRecordingStateChanged"),
    *("TeamsComplianceRecordingStateChanged", "IncomingCall"),
}
EVENT_GRID = {
    *(PUBLISHER + name for name in ("IncomingCall", "RecordingFileStatusUpdated", "CallStarted", "CallEnded")),
    *(PUBLISHER + name for name in ("CallParticipantAdded", "CallParticipantRemoved")),
    *("Microsoft.EventGrid.SubscriptionValidationEvent", "Microsoft.EventGrid.SubscriptionDeletedEvent"),
}


@dataclass
class Verdict:
    """What is printed about one event."""

    case: str
    type: str | None
    verdict: str
    detail: str

    @property
    def is_bad(self) -> bool:
        return self.verdict in ("mismatch", "error")


def differences(read: Json, sent: Json, path: str) -> Iterator[str]:
    """Where what the SDK read differs from what the body has."""
    if isinstance(read, Model) and isinstance(sent, dict):
        keys = {description["key"]: attribute for attribute, description in read._attribute_map.items()}
        for key, attribute in keys.items():
            yield from differences(getattr(read, attribute), sent.get(key), f"{path}.{key}")
        for key in sorted(sent.keys() - keys.keys() - UNMODELLED):
            yield f"{path}.{key}: no such member in {type(read).__name__}"
    elif isinstance(read, list) and isinstance(sent, list) and len(read) == len(sent):
        for index, pair in enumerate(zip(read, sent)):
            yield from differences(*pair, f"{path}[{index}]")
    elif isinstance(read, datetime) and isinstance(sent, str):
        if read != datetime.fromisoformat(sent):  # both keep microseconds
            yield f"{path}: {read.isoformat()} is not {sent}"
    elif type(read) is not type(sent) or read != sent:
        yield f"{path}: {read!r} is not {sent!r}"


def event_model(kind: str) -> str | None:
    """The name of the model of an event type, if there is one."""
    name = kind.removeprefix(PUBLISHER)
    keys = {description["key"] for description in getattr(MODELS.get(name), "_attribute_map", {}).values()}
    return name if kind.startswith(PUBLISHER) and COMMON_MEMBERS <= keys else None


def judge_event(case: str, event: dict[str, Json], told: dict[str, Json]) -> Verdict:
    """Holds one event against its model; `told` is what the fixture expects to be told of it."""
    kind = event.get("type") or event["eventType"]
    name = event_model(kind)
    if name is None:
        if kind.removeprefix(PUBLISHER) in PREVIEW_ONLY and "specversion" in event and "callConnectionId" in event["data"]:
            return Verdict(case, kind, "no model", "preview only")
        if kind in EVENT_GRID:
            return Verdict(case, kind, "no model", "comes from Event Grid (IncomingCall: in previews also to the callback URL)")
        if told.get("disposition") == "unrecognized":
            return Verdict(case, kind, "no model", "unknown, and expected to be told so")
        return Verdict(case, kind, "error", "no model, and no reason for that")
    if "specversion" not in event:
        return Verdict(case, kind, "error", "not a CloudEvent")
    found = list(differences(READ(name, event["data"]), event["data"], "data"))
    if event["data"].get("publicEventType", kind) != kind:
        found.append("data.publicEventType is not the type")
    return Verdict(case, kind, "mismatch" if found else "parsed", "; ".join(found))


def judge_case(folder: Path) -> Iterator[Verdict]:
    """Judges every event of one fixture."""
    expected = json.loads((folder / "expect.json").read_text(encoding="utf-8"))
    try:
        body = json.loads((folder / "body.json").read_text(encoding="utf-8"))
        events = body if isinstance(body, list) else [body]
        if not all(isinstance(event, dict) and ("type" in event or "eventType" in event) for event in events):
            raise ValueError("not an array or an object of events")
    except ValueError as reason:
        yield Verdict(folder.name, None, "unreadable" if expected["status"] == 400 else "error", str(reason))
        return
    if expected["status"] != 200 or len(expected["notifications"]) != len(events):
        yield Verdict(folder.name, None, "error", f"{len(events)} readable events, but another number is expected")
        return
    for event, told in zip(events, expected["notifications"]):
        try:
            yield judge_event(folder.name, event, told)
        except Exception as error:  # whatever the SDK trips over is a finding about the fixture, not a reason to stop
            yield Verdict(folder.name, event.get("type"), "error", repr(error))


def main() -> int:
    if len(sys.argv) != 2:
        print(f"usage: {sys.argv[0]} FOLDER", file=sys.stderr)
        return 1
    cases = sorted(path.parent for path in Path(sys.argv[1]).glob("*/body.json"))
    verdicts = [verdict for case in cases for verdict in judge_case(case)]
    for verdict in verdicts:
        print(json.dumps(asdict(verdict), ensure_ascii=False))
    if not verdicts:
        print(f"no fixtures in {sys.argv[1]}", file=sys.stderr)
    return 1 if not verdicts or any(verdict.is_bad for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
