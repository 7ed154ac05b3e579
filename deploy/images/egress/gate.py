#!/usr/bin/python3 -IS
"""Is the network policy of this pod in place? Looks from inside its network, and writes the answer to a file.

    optio-gate [--api] [--patience SECONDS] ADDRESS PORT CANARY FILE

The egress proxy listens on PORT, which every policy allows, and on CANARY, which none does; it is the same process. So while
CANARY is reached there is no policy yet, and when PORT is reached and CANARY is not, three times in a row, the policy is the
reason. With --api the cluster's API must not be reached either. FILE then has the one line `open`. When
patience is at its end it has the reason instead.

When the gate is open it lives as long as the agent's container, so that the pod is ready for as long, and no longer: that has
the pipe FILE.alive open, whose end it waits for.
"""

import errno
import os
import select
import signal
import socket
import sys
import time

PATIENCE = 60.0
ROUNDS = 3
# Between two looks: short while the policy is about to come, which is when an agent waits.
PAUSE, SLOW, SOON = 0.01, 0.2, 3.0
# How long a connection that a policy swallows is waited for: far longer than the one took that was let through beside it.
SHORTEST, LONGEST, TIMES = 0.04, 1.0, 20
# How long the proxy is waited for. The first packets of a pod may be lost while its network is made, and TCP repeats them only
# after a second: so the first try is short, and each is longer than the last that failed. A slow network has its time soon.
FIRST, LONGER = 0.05, 1.5


def connected(targets, first=LONGEST):
    """Which of these (address, port) can be reached. The first may take so long, the others what is fair beside it."""
    sockets = {}
    poll = select.poll()
    begin = time.monotonic()
    for target in targets:
        found = socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, socket.SOCK_STREAM)
        found.setblocking(False)
        code = found.connect_ex(target)
        if code in (0, errno.EINPROGRESS):
            poll.register(found, select.POLLOUT)
            sockets[found.fileno()] = (found, target)
        else:
            found.close()
    reached = set()
    until, over = begin + first, False
    while sockets and not over:
        # What is there when the time is over counts: this process may have waited for its turn meanwhile.
        left = until - time.monotonic()
        over = left <= 0
        for number, _ in poll.poll(max(0.0, left * 1000)):
            found, target = sockets.pop(number)
            poll.unregister(number)
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                reached.add(target)
            found.close()
            if target == targets[0]:
                if target not in reached:
                    over = True
                    break
                now = time.monotonic()
                until = now + min(max(SHORTEST, TIMES * (now - begin)), LONGEST)
    for found, _ in sockets.values():
        found.close()
    return reached


def verdict(proxy, forbidden, patience=PATIENCE):
    """`open`, or why not."""
    begin = time.monotonic()
    closed, reason, first = 0, "", FIRST
    while True:
        reached = connected([proxy, *forbidden], first)
        wrong = [target for target in forbidden if target in reached]
        if wrong:
            closed = 0
            reason = f"no network policy is enforced: {shown(wrong[0])} can be reached, which no policy allows"
        elif proxy not in reached:
            closed = 0
            reason = f"the egress proxy cannot be reached at {shown(proxy)}"
            first = min(first * LONGER, LONGEST)
        elif (closed := closed + 1) == ROUNDS:
            return "open"
        passed = time.monotonic() - begin
        if passed > patience:
            return reason or "the network is too slow to tell whether a policy is enforced"
        time.sleep(PAUSE if closed or passed < SOON else SLOW)


def shown(target):
    """As people write it."""
    return "{}:{}".format(f"[{target[0]}]" if ":" in target[0] else target[0], target[1])


def wait(pipe):
    """Until whoever opens it next is gone; a megabyte waits, not an interpreter."""
    os.dup2(os.open(pipe, os.O_RDONLY), 0)
    os.execv("/bin/cat", ["cat"])  # noqa: S606


def main():
    words = sys.argv[1:]
    api, patience = words[:1] == ["--api"], PATIENCE
    if api:
        del words[0]
    if words[0] == "--patience":
        patience = float(words[1])
        del words[:2]
    address, port, canary, path = words
    forbidden = [(address, int(canary))]
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
    if api and (":" in host or host.replace(".", "").isdigit()):
        forbidden.append((host, int(os.environ.get("KUBERNETES_SERVICE_PORT", "443"))))
    found = verdict((address, int(port)), forbidden, patience)
    alive = path + ".alive"
    if found == "open":
        os.mkfifo(alive, 0o600)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # from now on its end is as it should be
    # Whoever waits for the file finds all of it.
    with open(path + ".new", "w") as file:
        file.write(found + "\n")
    os.chmod(path + ".new", 0o644)
    os.rename(path + ".new", path)
    print(found, flush=True)
    if found == "open":
        wait(alive)


if __name__ == "__main__":
    main()
