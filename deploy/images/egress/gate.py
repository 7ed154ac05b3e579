#!/usr/bin/python3 -IS
"""Is the network policy of this pod in place? Looks from inside its network, and writes the answer to a file.

    optio-gate [--api] [--patience SECONDS] ADDRESS PORT CANARY FILE

The egress proxy listens on PORT, which every policy allows, and on CANARY, which none does; it is the same process. So while
CANARY is reached there is no policy yet, and when PORT is reached three times in a row and CANARY is not, the policy is the
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
# A look: so many tries, which begin so much apart.
ROUNDS, APART = 3, 0.01
# Between two looks: short while the policy is about to come, which is when an agent waits.
PAUSE, SLOW, SOON = 0.01, 0.2, 3.0
# How long a connection that a policy swallows is waited for: far longer than the one took that was let through beside it.
SHORTEST, LONGEST, TIMES = 0.04, 1.0, 20
# How long the proxy is waited for. The first packets of a pod may be lost while its network is made, and TCP repeats them only
# after a second: so the first try is short, and each is longer than the last that failed. A slow network has its time soon.
FIRST, LONGER = 0.05, 1.5


def connected(targets, first=LONGEST):
    """Which of these (address, port) can be reached: the first if each of some tries in short succession reached it, another if
    any did. Each try for the first may take so long, those for the others what is fair beside it."""
    tries, poll = {}, select.poll()
    begin = time.monotonic()
    rounds, answers, reached, over = 0, 0, set(), False
    while not over and (tries or rounds < ROUNDS):
        now, due = time.monotonic(), begin + rounds * APART
        if rounds < ROUNDS and now >= due:
            rounds, until = rounds + 1, now + first
            for target in targets:
                found = socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, socket.SOCK_STREAM)
                found.setblocking(False)
                if found.connect_ex(target) in (0, errno.EINPROGRESS):
                    poll.register(found, select.POLLOUT)
                    tries[found.fileno()] = (found, target, now)
                else:
                    found.close()
            due += APART
        # What is there when the time is over counts: this process may have waited for its turn meanwhile.
        over = now >= until
        for number, _ in poll.poll(max(0.0, (until if rounds == ROUNDS else min(until, due)) - now) * 1000):
            found, target, begun = tries.pop(number)
            poll.unregister(number)
            through = found.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            found.close()
            if target == targets[0]:
                answers += through
                now = time.monotonic()
                until = now + min(max(SHORTEST, TIMES * (now - begun)), LONGEST)
            elif through:
                reached.add(target)
            over = over or through == (target != targets[0])
    for found, _, _ in tries.values():
        found.close()
    return reached | ({targets[0]} if answers == ROUNDS else set())


def verdict(proxy, forbidden, patience=PATIENCE):
    """`open`, or why not."""
    begin = time.monotonic()
    first = FIRST
    while True:
        reached = connected([proxy, *forbidden], first)
        wrong = [target for target in forbidden if target in reached]
        if wrong:
            reason = f"no network policy is enforced: {shown(wrong[0])} can be reached, which no policy allows"
        elif proxy not in reached:
            reason = f"the egress proxy cannot be reached at {shown(proxy)}"
            first = min(first * LONGER, LONGEST)
        else:
            return "open"
        passed = time.monotonic() - begin
        if passed > patience:
            return reason
        time.sleep(PAUSE if passed < SOON else SLOW)


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
    # Who waits for the file reads from this pipe, and need not look again and again; nobody may.
    soon, alive = path + ".soon", path + ".alive"
    os.mkfifo(soon, 0o600)
    said = os.open(soon, os.O_RDWR)
    found = verdict((address, int(port)), forbidden, patience)
    if found == "open":
        os.mkfifo(alive, 0o600)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # from now on its end is as it should be
    # Whoever waits for the file finds all of it.
    with open(path + ".new", "w") as file:
        file.write(found + "\n")
    os.chmod(path + ".new", 0o644)
    os.rename(path + ".new", path)
    os.write(said, b"\n")
    print(found, flush=True)
    if found == "open":
        wait(alive)


if __name__ == "__main__":
    main()
