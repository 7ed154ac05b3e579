#!/usr/bin/python3 -IS
"""Is the egress proxy ready? It must tell a list that a worker wrote from another, and refuse what is not on it."""

import base64
import hmac
import os
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from allow import CONTEXT, key


def asked(secret):
    """The status of a request by an empty list."""
    user = base64.urlsafe_b64encode(b"1,").rstrip(b"=")
    password = base64.urlsafe_b64encode(hmac.digest(secret, CONTEXT + user, "sha256")).rstrip(b"=")
    credentials = base64.b64encode(user + b":" + password)
    with socket.create_connection(("127.0.0.1", 3128), 3) as connection:
        connection.settimeout(3)
        head = b"CONNECT ready.invalid:443 HTTP/1.1\r\nHost: ready.invalid:443\r\nProxy-Authorization: Basic %s\r\n\r\n"
        connection.sendall(head % credentials)
        return connection.recv(64).split(b" ")[1]


def main():
    try:
        good, bad = asked(key()), asked(b"another key")
    except (OSError, IndexError) as err:
        sys.exit(f"no answer: {err}")
    if (good, bad) != (b"403", b"407"):
        sys.exit(f"answers {good.decode()} and {bad.decode()}")


if __name__ == "__main__":
    main()
