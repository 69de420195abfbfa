"""The callback URL of a bot that validates with Microsoft's SDK for bots, as if the platform itself had called it.

    python tests/bots/bot_framework.py http://127.0.0.1:9000/v1/.well-known/OpenIdConfiguration APPLICATION_ID

Prints `{"port": N}`, then one line of JSON for each POST, before it answers that. Ends on SIGTERM. Exit code 77 if the SDK is not
installed (`pip install botframework-connector==4.17.1 aiohttp`: it imports aiohttp, but does not ask for it).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

try:
    from botframework.connector.auth import ChannelValidation, JwtTokenValidation, SimpleCredentialProvider
except ImportError as missing:
    print(f"botframework-connector is not installed: {missing}", file=sys.stderr)
    sys.exit(77)


def resource(body: bytes) -> object:
    """Of the first item."""
    try:
        return json.loads(body)["value"][0]["resourceUrl"]
    except (ValueError, LookupError, TypeError):
        return None


class Bot(BaseHTTPRequestHandler):
    """Believes whom the SDK believes."""

    protocol_version = "HTTP/1.1"
    credentials: SimpleCredentialProvider
    one_at_a_time = threading.Lock()  # the SDK marks its keys as fresh before it has them, so a second thread may see none

    def refusal(self) -> str | None:
        """Why this request is refused. A callback has no Activity, hence neither a channel nor a service URL to be compared."""
        header = self.headers.get("Authorization", "")
        try:
            asyncio.run(JwtTokenValidation.validate_auth_header(header, self.credentials, "", channel_id=""))
        except Exception as refused:  # noqa: BLE001 - the SDK raises what its libraries raise
            return f"{type(refused).__name__}: {refused}"
        return None

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.one_at_a_time:
            why = self.refusal()
            told = {
                "status": 401 if why else 202,
                "why": why,
                "path": self.path,
                "messageId": self.headers.get("X-Microsoft-Skype-Message-ID"),
                "sha256": hashlib.sha256(body).hexdigest(),
                "resource": resource(body),
            }
            print(json.dumps(told), flush=True)
        self.send_response(401 if why else 202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Stdout says it all."""


def main(metadata: str, application: str) -> None:
    ChannelValidation.open_id_metadata_endpoint = metadata
    Bot.credentials = SimpleCredentialProvider(application, "")
    with ThreadingHTTPServer(("127.0.0.1", 0), Bot) as server:
        print(json.dumps({"port": server.server_port}), flush=True)
        server.serve_forever()


main(*sys.argv[1:])
