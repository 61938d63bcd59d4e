"""Prints each change, and continues after a restart where it ended. Keeps its cursor in the file `cursor`."""

import os
from pathlib import Path

from presence import follow

kept = Path("cursor")
online = set()


def keep(cursor):
    """In one step, so that a program that is killed here keeps the old cursor or the new one."""
    new = kept.with_suffix(".new")
    new.write_text(cursor)
    os.replace(new, kept)


for event, data, cursor in follow(kept.read_text() if kept.exists() else None):
    match event:
        case "presence.reset":
            online.clear()  # Events are missing. A snapshot follows.
        case "presence.snapshot":
            online.update(data["online"])
        case "presence.ready":
            print("caught up", flush=True)
        case "user.online":
            online.add(data["userId"])
            print(f"{data['userId']} is online", flush=True)
        case "user.offline":
            online.discard(data["userId"])
            print(f"{data['userId']} is offline: {data['reason']}", flush=True)
    keep(cursor)
