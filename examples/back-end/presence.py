"""What a back end in Python does with the service. Needs httpx and httpx-sse.

PRESENCE_URL is where the service is, PRESENCE_KEY an API key, PRESENCE_JWT_SECRET the secret of the tokens.
"""

import base64
import hashlib
import hmac
import json
import os
import time
from urllib.parse import quote

import httpx
from httpx_sse import connect_sse

ATTEMPTS = 4

client = httpx.Client(
    base_url=os.environ["PRESENCE_URL"],
    headers={"Authorization": f"Bearer {os.environ['PRESENCE_KEY']}"},
    timeout=5,
)


def call(method, path, **options):
    """Makes a call, again where it fails for a while: every call may be repeated."""
    for attempt in range(1, ATTEMPTS + 1):
        wait = 0.5 * attempt
        try:
            response = client.request(method, path, **options)
            if response.status_code not in (429, 502, 503) or attempt == ATTEMPTS:
                response.raise_for_status()
                return response.json()
            wait = int(response.headers.get("Retry-After", 1))
        except httpx.TransportError:
            if attempt == ATTEMPTS:
                raise
        time.sleep(wait)


def online_among(users):
    """The online users among `users`, in the same order."""
    online = []
    for start in range(0, len(users), 1000):
        answer = call("POST", "/v1/online", json={"userIds": users[start : start + 1000]})
        online += answer["online"]
    return online


def all_online():
    """Every user that is online, page by page."""
    query = {"limit": 1000}
    while True:
        page = call("GET", "/v1/online", params=query)
        yield from page["online"]
        if page["nextCursor"] is None:
            return
        query["cursor"] = page["nextCursor"]


def count():
    return call("GET", "/v1/online/count")["count"]


def user(user_id):
    """One user: online, lastSeenAt, connections. An unknown user is offline."""
    return call("GET", f"/v1/users/{quote(user_id, safe='')}")


def sign_out(user_id):
    """Closes all connections of a user. Pings that were under way come too late, and get 409."""
    return call("POST", f"/v1/users/{quote(user_id, safe='')}/disconnect", json={"all": True})


def mint_token(user_id, watch=(), seconds=3600):
    """A token for a user that has signed in: to be online, and to see the users in `watch`, or all of them for "*"."""
    watch = watch if watch == "*" else list(watch)
    claims = {"sub": user_id, "exp": int(time.time()) + seconds, "watch": watch}
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signed = b".".join(map(base64url, parts))
    secret = os.environ["PRESENCE_JWT_SECRET"].encode()
    return (signed + b"." + base64url(hmac.digest(secret, signed, hashlib.sha256))).decode()


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def follow(cursor=None):
    """Yields the name, the data and the cursor of each message of the stream of all users, for ever.

    Keep the cursor of a message after you have acted on it, and begin with it next time.
    """
    retry = 3
    while True:
        headers = {"Last-Event-ID": cursor} if cursor else {}
        # A comment comes at least every 15 s, so a stream that is silent for longer is dead.
        timeout = httpx.Timeout(10, read=45)
        try:
            with connect_sse(
                client, "GET", "/v1/events", params={"snapshot": "true"}, headers=headers, timeout=timeout
            ) as source:
                if source.response.status_code < 500:
                    source.response.raise_for_status()
                    for message in source.iter_sse():
                        retry = message.retry / 1000 if message.retry else retry
                        cursor = message.id or cursor
                        yield message.event, message.json(), cursor
        except httpx.TransportError:
            pass  # The stream broke. Come back with the cursor, and nothing is lost.
        time.sleep(retry)
