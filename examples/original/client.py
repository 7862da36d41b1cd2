#!/usr/bin/env python3
"""A client as they were written for the Python system that Posta replaces.

    python3 examples/original/client.py [HOST PORT | HOST:PORT]

It knows nothing of Posta: it sends four tasks, one a line, and prints what comes
back until nothing has come for three seconds (POSTA_PATIENCE shortens that). It
must see four replies with "status":"done". Without an address it uses POSTA_TO, as
all examples do, or 127.0.0.1:9000.
"""

import json
import os
import socket
import sys

TASKS = [
    {"id": 1, "action": "echo", "payload": "hola"},
    {"id": 2, "action": "upper", "payload": "texto de prueba"},
    {"id": 3, "action": "sleep", "payload": 0.5},
    {"id": 4, "action": "fib", "payload": 25},
]


def address(arguments):
    if len(arguments) == 2:
        return arguments[0], int(arguments[1])
    to = arguments[0] if arguments else os.environ.get("POSTA_TO", "127.0.0.1:9000")
    host, port = to.rsplit(":", 1)
    return host, int(port)


def main():
    sock = socket.create_connection(address(sys.argv[1:]), timeout=5)
    for task in TASKS:
        sock.sendall((json.dumps(task) + "\n").encode("utf-8"))

    sock.settimeout(float(os.environ.get("POSTA_PATIENCE", "3")))
    received = b""
    while True:
        try:
            data = sock.recv(4096)
        except socket.timeout:
            break
        if not data:
            break
        received += data
        while b"\n" in received:
            line, received = received.split(b"\n", 1)
            print(line.decode("utf-8"))
    sock.close()


main()
