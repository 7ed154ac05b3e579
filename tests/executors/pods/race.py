"""The race between a pod's policy and its agent, as a story: `python -m tests.executors.pods.race [PODS]`.

Agents whose first act is to try what is forbidden, in a tight loop for three seconds: behind the gate none may get through. The
same pods without a gate show that there is a race to lose: in some the policy comes after the agent.
"""

import json
import statistics
import sys
import textwrap
from typing import NamedTuple

from tests.executors.pods.fence import OTHER_PORT, Fence, fence

_SECONDS = 3
_AGENT = textwrap.dedent("""
    import errno, json, os, select, socket, sys, time
    targets, seconds = json.loads(sys.argv[1]), float(sys.argv[2])
    tried, reached = 0, {}
    begin = time.monotonic()
    while time.monotonic() < begin + seconds:
        for what, (host, port) in targets.items():
            with socket.socket() as s:
                s.setblocking(False)
                code = s.connect_ex((host, port))
                poll = select.poll()
                poll.register(s, select.POLLOUT)
                if code in (0, errno.EINPROGRESS) and poll.poll(30) and s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    reached[what] = time.monotonic() - begin
                tried += 1
    print(json.dumps({"tried": tried, "reached": reached, "waited_ms": int(os.environ.get("WAITED_MS", 0))}))
""")


class Told(NamedTuple):
    """How many got through, and how long each waited for its gate."""

    through: int
    waited_ms: list[int]


def story(place: Fence, name: str, pods: int, *, wait: bool) -> Told:
    """Start them all at once, and print what they reached."""
    targets = {
        "a pod": (place.outside_pod, OTHER_PORT),
        "the API": ("10.96.0.1", 443),
        "the canary": (place.proxy.host, place.proxy.canary),
    }
    for number in range(pods):
        place.admit(f"{name}-{number}", [], _AGENT, json.dumps(targets), str(_SECONDS), wait=wait)
    found = [json.loads(place.said(f"{name}-{number}", within=300)) for number in range(pods)]
    through = [each for each in found if each["reached"]]
    last = max((max(each["reached"].values()) for each in through), default=0.0)
    tried = sum(each["tried"] for each in found)
    print(f"{name}: {pods} pods, {tried} forbidden connections; {len(through)} pods got through, the last after {last:.2f} s")
    return Told(len(through), sorted(each["waited_ms"] for each in found))


def main() -> int:
    """0 if nobody behind a gate got through, and somebody without one did."""
    pods = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with fence() as place:
        gated = story(place, "gated", pods, wait=True)
        waits = gated.waited_ms
        print(f"gate, as {pods} agents see it: p50 {statistics.median(waits):.0f} ms, p90 {waits[int(pods * 0.9) - 1]} ms")
        ungated = story(place, "ungated", pods, wait=False)
        alone = sorted(story(place, f"alone-{number}", 1, wait=True).waited_ms[0] for number in range(10))
        print(f"gate, one pod at a time: p50 {statistics.median(alone):.0f} ms, p90 {alone[8]} ms")
    return 0 if gated.through == 0 and ungated.through else 1


if __name__ == "__main__":
    sys.exit(main())
