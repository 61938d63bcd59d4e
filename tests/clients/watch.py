"""Watches a stream with one library, as its documentation shows it, and prints each message that the library shows:

    python watch.py httpx-sse http://127.0.0.1:8080/v1/events

None of these libraries reconnects by itself, so the loop below reconnects, as each program with them has to.
"""

import json
import sys
import time


def httpx_sse(url, headers):
    import httpx
    from httpx_sse import connect_sse

    with httpx.Client(timeout=None) as client, connect_sse(client, "GET", url, headers=headers) as source:
        for message in source.iter_sse():
            yield message.event, message.json(), message.id, message.retry


def sseclient_py(url, headers):
    import requests
    import sseclient

    response = requests.get(url, headers=headers, stream=True)
    for message in sseclient.SSEClient(response).events():
        yield message.event, json.loads(message.data), message.id, message.retry


def requests_lines(url, headers):
    """Reads the lines as text, in the encoding that `requests` takes from the headers."""
    import requests

    response = requests.get(url, headers=headers, stream=True)
    fields = {}
    for line in response.iter_lines(chunk_size=1, decode_unicode=True):
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            yield fields["event"], json.loads(fields["data"]), fields.get("id"), fields.get("retry")
            fields = {}


LIBRARIES = {"httpx-sse": httpx_sse, "sseclient-py": sseclient_py, "requests": requests_lines}


def gone(error):
    """Whether this says that the connection ended, and not that a message cannot be read."""
    return type(error).__module__.split(".")[0] in ("httpx", "requests", "urllib3")


def main(library, url):
    last_id, retry = None, 3.0
    while True:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        try:
            for event, data, id, asked in LIBRARIES[library](url, headers):
                print(json.dumps({"event": event, "data": data}), flush=True)
                last_id = id or last_id
                retry = int(asked) / 1000 if asked else retry
        except Exception as error:
            if isinstance(error, json.JSONDecodeError) or not gone(error):
                raise
        time.sleep(retry)


main(*sys.argv[1:])
