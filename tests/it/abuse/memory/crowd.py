"""Thousands of clients, each with an open connection on which it pings: now, and again after a silence.

crowd.py HOST PORT: prints how many there are, as `N clients`, and how many were served again, as `N served`.
"""

import resource
import socket
import sys
import time

# How many there are, where the limit of open files allows it; and what else needs open files.
CLIENTS = 20_000
OTHER_FILES = 500

# How many connect before they ping: a client that says nothing at first is cut off after some seconds.
AT_ONCE = 500

# How many ping at once after the silence. A request that waits for 10 s is refused, and a busy machine may need that
# long to answer all clients.
PING_AT_ONCE = 5_000

SILENCE_S = 4
PATIENCE_S = 30

REQUEST = b"POST /v1/users/one-of-the-crowd/ping HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"


def ping(connections):
    """Pings on each connection, all at once; returns how many were answered."""
    for connection in connections:
        connection.sendall(REQUEST)
    return sum(connection.recv(1_024).startswith(b"HTTP/1.1 200 ") for connection in connections)


def main():
    address = (sys.argv[1], int(sys.argv[2]))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    unlimited = hard == resource.RLIM_INFINITY
    count = CLIENTS if unlimited else min(CLIENTS, hard - OTHER_FILES)
    connections = []
    while len(connections) < count:
        more = min(AT_ONCE, count - len(connections))
        added = [socket.create_connection(address, PATIENCE_S) for _ in range(more)]
        assert ping(added) == more
        connections += added
        print(len(connections), "so far", flush=True)
    print(count, "clients", flush=True)
    time.sleep(SILENCE_S)
    parts = (connections[first : first + PING_AT_ONCE] for first in range(0, count, PING_AT_ONCE))
    print(sum(ping(part) for part in parts), "served", flush=True)


main()
