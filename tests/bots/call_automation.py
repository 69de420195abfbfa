"""A bot of Communication Services, written with Microsoft's SDK, that knows nothing of the ledger but its gateway's address.

    python tests/bots/call_automation.py http://127.0.0.1:8081/gateway/acs http://127.0.0.1:8080/api/callbacks

The SDK sends Entra's tokens over https alone, and signs with an access key for the host that it calls; so the gateway signs here, and
the bot has a token of the ledger's (in `CALLBACK_LEDGER_TOKEN`) and a key that is nobody's. Prints the id of its call. Exit code 77 if the SDK is not installed (`pip install azure-communication-callautomation`).
"""

from __future__ import annotations

import os
import sys
import time

try:
    from azure.communication.callautomation import (
        CallAutomationClient,
        CommunicationUserIdentifier,
        PhoneNumberIdentifier,
        RecognizeInputType,
        TextSource,
    )
    from azure.core.credentials import AzureKeyCredential
    from azure.core.pipeline.policies import HeadersPolicy
except ImportError as missing:
    print(f"azure-communication-callautomation is not installed: {missing}", file=sys.stderr)
    sys.exit(77)


PATIENCE = 30.0

def main(gateway: str, callback: str) -> None:
    ours = HeadersPolicy({"Callback-Ledger-Token": os.environ["CALLBACK_LEDGER_TOKEN"]})
    client = CallAutomationClient(gateway, AzureKeyCredential("bm9ib2R5cw=="), headers_policy=ours)
    caller = CommunicationUserIdentifier("8:acs:caller")
    created = client.create_call(caller, callback, operation_context="call")
    call = client.get_call_connection(created.call_connection_id)
    until_connected(call)

    number = PhoneNumberIdentifier("+14255550100")
    added = call.add_participant(number, source_caller_id_number=number, operation_context="add")
    call.cancel_add_participant_operation(added.invitation_id, operation_context="take-back")

    call.play_media_to_all(TextSource(text="Hello.", voice_name="en-US-JennyNeural"), operation_context="prompt")
    call.start_recognizing_media(
        RecognizeInputType.DTMF, caller, dtmf_max_tones_to_collect=1, operation_context="recognize"
    )
    call.cancel_all_media_operations()

    recording = client.start_recording(server_call_id=created.server_call_id)
    call.mute_participant(caller, operation_context="mute")
    call.hold(caller, operation_context="hold")
    call.send_dtmf_tones(["one"], caller, operation_context="tones")
    client.stop_recording(recording.recording_id)
    call.hang_up(is_for_everyone=True)
    print(created.call_connection_id)


def until_connected(call: object) -> None:
    since = time.monotonic()
    while call.get_call_properties().call_connection_state != "connected":
        if time.monotonic() - since > PATIENCE:
            raise TimeoutError("the call was not connected")
        time.sleep(0.02)


main(*sys.argv[1:])
