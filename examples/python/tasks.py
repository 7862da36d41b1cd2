#!/usr/bin/env python3
"""Tasks from Python, with nothing but its standard library.

    POSTA_TO=127.0.0.1:9000 python3 examples/python/tasks.py

Sends two tasks at once on one connection and prints each result as it comes: the
quick task does not wait for the slow one, so it is the id that tells the replies
apart, never their order.
"""

import json
import os
import socket

TASKS = [
    {"id": "slow", "action": "sleep", "payload": 0.3},
    {"id": "fast", "action": "upper", "payload": "hola"},
]


def connect():
    """Opens a connection to the balancer or the node that POSTA_TO names."""
    host, _, port = os.environ.get("POSTA_TO", "127.0.0.1:9000").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def run(connection, tasks):
    """Sends all tasks, then yields a reply for each in the order they finish."""
    connection.sendall(b"".join(json.dumps(task).encode() + b"\n" for task in tasks))
    replies = connection.makefile("r", encoding="utf-8")
    for _ in tasks:
        yield json.loads(replies.readline())


with connect() as connection:
    for reply in run(connection, TASKS):
        if reply["status"] == "error":  # the line itself was refused
            raise SystemExit(f"{reply['code']}: {reply['error']}")
        print(reply["id"], json.dumps(reply["result"], separators=(",", ":")))
