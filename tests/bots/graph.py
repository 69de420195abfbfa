"""A Teams calling bot, written with Microsoft's Graph SDK, that knows nothing of the ledger but its gateway's address.

    python tests/bots/graph.py http://127.0.0.1:8081/gateway/graph/v1.0 http://127.0.0.1:8080/api/calls

Prints the id of its call. Exit code 77 if the SDK is not installed (`pip install msgraph-sdk`).
"""

from __future__ import annotations

import asyncio
import sys
import time

try:
    from kiota_abstractions.api_error import APIError
    from kiota_abstractions.authentication import AccessTokenProvider, AllowedHostsValidator, BaseBearerTokenAuthenticationProvider
    from msgraph import GraphRequestAdapter, GraphServiceClient
    from msgraph.generated.communications.calls.item.cancel_media_processing.cancel_media_processing_post_request_body import (
        CancelMediaProcessingPostRequestBody,
    )
    from msgraph.generated.communications.calls.item.play_prompt.play_prompt_post_request_body import PlayPromptPostRequestBody
    from msgraph.generated.communications.calls.item.record_response.record_response_post_request_body import (
        RecordResponsePostRequestBody,
    )
    from msgraph.generated.communications.calls.item.subscribe_to_tone.subscribe_to_tone_post_request_body import (
        SubscribeToTonePostRequestBody,
    )
    from msgraph.generated.models.call import Call
    from msgraph.generated.models.media_info import MediaInfo
    from msgraph.generated.models.media_prompt import MediaPrompt
    from msgraph.generated.models.modality import Modality
except ImportError as missing:
    print(f"msgraph-sdk is not installed: {missing}", file=sys.stderr)
    sys.exit(77)


class Entra(AccessTokenProvider):
    """Tokens as Entra would give them."""

    def __init__(self) -> None:
        self._hosts = AllowedHostsValidator([])

    async def get_authorization_token(self, uri: str, additional_authentication_context: dict | None = None) -> str:
        return "the-bots"

    def get_allowed_hosts_validator(self) -> AllowedHostsValidator:
        return self._hosts


PATIENCE = 30.0


def prompt() -> MediaPrompt:
    info = MediaInfo(odata_type="#microsoft.graph.mediaInfo", uri="https://bot.contoso.com/hello.wav", resource_id="r-1")
    return MediaPrompt(odata_type="#microsoft.graph.mediaPrompt", media_info=info)


async def main(gateway: str, callback: str) -> None:
    adapter = GraphRequestAdapter(BaseBearerTokenAuthenticationProvider(Entra()))
    adapter.base_url = gateway
    client = GraphServiceClient(request_adapter=adapter)
    created = await client.communications.calls.post(
        Call(odata_type="#microsoft.graph.call", callback_uri=callback, requested_modalities=[Modality.Audio])
    )
    call = client.communications.calls.by_call_id(created.id)

    # accepted as soon as the call is established
    since = time.monotonic()
    record = RecordResponsePostRequestBody(client_context="record", prompts=[prompt()], max_record_duration_in_seconds=60)
    while True:
        try:
            recording = await call.record_response.post(record)
            break
        except APIError as early:
            if early.response_status_code != 400 or time.monotonic() - since > PATIENCE:
                raise
            await asyncio.sleep(0.05)
    assert recording.client_context == "record", recording
    await call.play_prompt.post(PlayPromptPostRequestBody(client_context="prompt", prompts=[prompt()]))
    await call.subscribe_to_tone.post(SubscribeToTonePostRequestBody(client_context="tones"))
    canceled = await call.cancel_media_processing.post(CancelMediaProcessingPostRequestBody(client_context="cancel"))
    assert canceled.odata_type == "#microsoft.graph.cancelMediaProcessingOperation", canceled
    await call.delete()
    print(created.id)


asyncio.run(main(*sys.argv[1:]))
