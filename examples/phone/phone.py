"""Keeps the user of a phone online: what an app does, in Python. Ctrl-C is the app that goes to the background.

PRESENCE_URL, PRESENCE_USER and PRESENCE_TOKEN say where, for which user, and with which credential.
"""

import os
import random
import signal
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import quote

import httpx


def back_off(failures):
    """Seconds: one, doubled with each failure, at most half a minute."""
    return min(30, 2 ** (failures - 1))


class Presence:
    def __init__(self, service, user, get_token, connection_id):
        self.client = httpx.Client(base_url=service, timeout=10)
        self.path = f"/v1/users/{quote(user, safe='')}"
        self.get_token = get_token
        self.token = None
        self.connection_id = connection_id
        self.verb = "connect"
        self.failures = 0

    def call(self, verb, body=None):
        self.token = self.token or self.get_token()
        return self.client.post(
            f"{self.path}/{verb}",
            json=body or {"connectionId": self.connection_id},
            headers={"Authorization": f"Bearer {self.token}"},
        )

    def step(self):
        """Connects or pings, and returns the seconds until the next call; None where the program is wrong."""
        try:
            response = self.call(self.verb)
        except httpx.TransportError:
            self.failures += 1
            return back_off(self.failures)
        if response.is_success:
            self.verb, self.failures = "ping", 0
            return response.json()["pingIntervalMs"] / 1000
        # A proxy may answer with something other than JSON.
        media_type = response.headers.get("Content-Type", "")
        problem = response.json() if media_type == "application/problem+json" else {}
        if problem.get("type") == "urn:presence:problem:connection-closed":
            self.verb = "connect"
            return 0
        if response.status_code in (400, 403):
            return None
        if response.status_code == 401:
            self.token = None
        self.failures += 1
        return max(back_off(self.failures), int(response.headers.get("Retry-After", 0)))

    def run(self):
        while (wait := self.step()) is not None:
            time.sleep(wait * random.uniform(0.9, 1))

    def leave(self):
        """The app goes to the background. If the call fails, the user is offline when the TTL ends."""
        try:
            self.call("disconnect")
        except httpx.TransportError:
            pass

    def sign_out(self):
        """Closes the user's connections on all devices."""
        self.call("disconnect", {"all": True}).raise_for_status()


def id_of_this_installation(file):
    """Made once, and kept: an app that is killed and started again is still the same connection."""
    if not file.exists():
        file.write_text(str(uuid.uuid4()))
    return file.read_text()


def main():
    presence = Presence(
        os.environ["PRESENCE_URL"],
        os.environ["PRESENCE_USER"],
        lambda: os.environ["PRESENCE_TOKEN"],
        id_of_this_installation(Path("connection-id")),
    )
    signal.signal(signal.SIGINT, lambda *_: sys.exit())
    try:
        presence.run()
    finally:
        presence.leave()


if __name__ == "__main__":
    main()
