# The first process of a pod that runs one attempt. It needs a POSIX shell and of the image's utilities these few:
# cat dd grep head ln mkdir mkfifo mv od rm sleep tail wc. What can be done before a launch is here is done before: an agent waits for
# each process that is made after it.
#
# What it prints is the pod's log, in frames: `MARK STREAM OFFSET LENGTH`, a newline, so many bytes of that stream, a newline.
# Streams: `o` output, `e` errors, `r` results, `d` session and `t` telemetry of the agent, from its files; `s` what happened
# here, `x` how it ended (JSON).
# A capital letter says that the bytes are in hexadecimal, which LENGTH counts: container runtimes take the \r from a \r\n.
umask 077
mark=$OPTIO_MARK ahead=${OPTIO_AHEAD-} idle=${OPTIO_IDLE-} gate=${OPTIO_GATE-}
unset OPTIO_MARK OPTIO_AHEAD OPTIO_IDLE OPTIO_GATE
cd /optio || exit 70
say() { printf '%s %s 0 %s\n%s\n' "$mark" "$1" "${#2}" "$2"; }
trap 'exit 143' TERM
mkdir -p home work result
# A launch that is here early waits at it.
mkfifo launch || exit 70
# Nothing of the task runs before the pod's network policy is in place: the container beside this one finds that out.
if [ -n "$gate" ]; then
    naps=0
    until [ -s "$gate" ] || [ $naps -gt 6000 ]; do
        naps=$((naps + 1))
        # It holds this pipe open until it has written the file. One of an older image has no such pipe.
        if [ -p "$gate.soon" ]; then
            read -r _ <"$gate.soon" || naps=9999
        else
            sleep 0.02 2>/dev/null || sleep 1
        fi
    done
    verdict='nothing was said'
    [ ! -s "$gate" ] || IFS= read -r verdict <"$gate"
    if [ "$verdict" != open ]; then
        echo "whether the network policy is in place could not be seen: $verdict" >/dev/termination-log
        exit 73
    fi
    # It lives as long as this, so that the pod is ready as long; one of an older image has ended.
    [ ! -p "$gate.alive" ] || exec 9<>"$gate.alive"
fi
if [ -n "$ahead" ]; then
    (
        eval "$ahead"
        setup
    ) || {
        echo "the set-up ended with exit code $?: $(tail -c 1000 stderr)" >/dev/termination-log
        exit 72
    }
fi
: >ready
say s ready
# A pod of a pool that nobody wants any more goes by itself, unless a launch makes `go` first.
if [ -n "$idle" ]; then
    (
        trap 'kill $!; exit' TERM
        sleep "$idle" &
        wait $!
        mkdir go && kill -TERM 1
    ) 2>/dev/null &
    idle=$!
fi
cr=$(printf '\r')
brief=0.05 short=0.1 long=0.2
at_o=0 at_e=0 at_r=0 at_d=0 at_t=0 results=no sides=no telemetries=no stopped= ended=
: >>stderr
: >renewed
# Blocks without a tick of the clock until a launch is here, however long that takes.
IFS= read -r word <launch
[ "$word" = go ] || exit 74
[ -z "$idle" ] || kill "$idle"
. ./private/plan
supervise

#: the launch brings what follows
: >>stdout
exec 3<stdout 4<stderr

# Whether a stream may have more than the last look at it found. No process is needed for that, so most naps cost but themselves:
# a look leaves its time behind before it reads. A clock that is set back, and a shell without `-nt`, hide nothing for long.
grown() {
    [ $((naps % 5)) = 0 ] || ! [ "looked_$1" -nt "$2" ] 2>/dev/null
}
# The next piece of a stream, if there is one. The descriptor keeps the place.
pump() {
    : >"looked_$1"
    dd bs=262144 count=1 2>/dev/null >piece
    [ -s piece ] || return 1
    count=$(wc -c <piece)
    count=$((count))
    eval "at=\$at_$1; at_$1=\$((at + count))"
    if grep -q "$cr" piece; then
        od -An -v -tx1 piece >coded
        count=$(wc -c <coded)
        printf '%s %s %s %s\n' "$mark" "$2" "$at" "$((count))"
        cat coded
    else
        printf '%s %s %s %s\n' "$mark" "$1" "$at" "$count"
        cat piece
    fi
    echo
}
pump_all() {
    moved=1
    # The agent may give its files any size: `MAX_STREAM_BYTES`.
    if [ $at_o -lt 1073741824 ] && [ -s stdout ] && grown o stdout && pump o O <&3; then moved=0; fi
    if [ $at_e -lt 1073741824 ] && [ -s stderr ] && grown e stderr && pump e E <&4; then moved=0; fi
    # The agent may put anything in this file's place.
    if [ $results = no ] && [ -s result/result.jsonl ] && [ -f result/result.jsonl ] && [ ! -h result/result.jsonl ]; then
        exec 5<result/result.jsonl && results=yes
    fi
    if [ $results = yes ] && [ $at_r -lt 16777216 ] && grown r result/result.jsonl && pump r R <&5; then moved=0; fi
    if [ $sides = no ] && [ -n "$SIDE" ]; then
        # shellcheck disable=SC2086 # a pattern
        for side in $SIDE; do break; done
        if [ -s "$side" ] && [ -f "$side" ] && [ ! -h "$side" ]; then ln "$side" side && exec 6<side && sides=yes; fi
    fi
    if [ $sides = yes ] && [ $at_d -lt 268435456 ] && grown d side && pump d D <&6; then moved=0; fi
    if [ $telemetries = no ] && [ -n "$TELEMETRY" ] && [ -s "$TELEMETRY" ] && [ -f "$TELEMETRY" ] && [ ! -h "$TELEMETRY" ]; then
        ln "$TELEMETRY" telemetry && exec 7<telemetry && telemetries=yes
    fi
    if [ $telemetries = yes ] && [ $at_t -lt 268435456 ] && grown t telemetry && pump t T <&7; then moved=0; fi
    return $moved
}

# Everything in this container but ourselves belongs to the attempt.
stop() {
    [ -z "$stopped" ] || return
    stopped=$1
    : >stopping
    kill -TERM -1 2>/dev/null
    # A signal to all does not reach its sender.
    (sleep "$2"; kill -KILL -1; kill -USR1 1) &
}
orphan() {
    if [ -f renewed ]; then rm renewed; else stop orphaned "$ORPHAN_GRACE"; fi
}
trap 'ended=yes' USR1
trap 'stop stop "$GRACE"' TERM
trap 'stop timeout "$GRACE"' ALRM
trap orphan USR2
# Lives until the agent has ended, whoever is told to stop, and keeps how.
(
    trap : TERM
    phase=setup
    code=0
    if [ -z "$ahead" ]; then
        setup
        code=$?
    fi
    if [ $code = 0 ] && [ ! -f stopping ]; then
        phase=agent
        agent <private/stdin >>stdout 2>>stderr 3<&- 4<&- 5<&- 6<&- 7<&- 9<&- &
        while :; do
            wait $!
            code=$?
            kill -0 $! 2>/dev/null || break
        done
    fi
    # Takes the place of whatever the agent has put there.
    echo "$phase $code" >ended.new
    mv ended.new ended
    kill -USR1 1
) &
(sleep "$TIMEOUT"; kill -ALRM 1) &
(while sleep "$ORPHAN_TICK"; do kill -USR2 1; done) &
say s started
rm private/plan launch ready
naps=0
while [ -z "$ended" ]; do
    if pump_all; then
        naps=0
        continue
    fi
    # What was told between this look and the nap costs one nap.
    [ -f ended ] && break
    naps=$((naps + 1))
    if [ $naps -lt 3 ]; then sleep $brief & elif [ $naps -lt 6 ]; then sleep $short & else sleep $long & fi
    wait $!
    # Some know whole seconds only.
    [ $? != 1 ] || brief=1 short=1 long=1
done
kill -KILL -1 2>/dev/null
naps=0
while pump_all; do :; done
phase=agent code=null error=
[ -f ended ] && read -r phase code <ended
[ -f unstarted ] && read -r error <unstarted
# Processes of this container that the kernel has killed for memory, by its own count: cgroup version 2 or 1.
oom=0
for file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
    [ ! -r $file ] || while read -r name count; do [ "$name" != oom_kill ] || oom=$count; done <$file
done
end="{\"phase\":\"$phase\",\"code\":$code,\"error\":\"$error\",\"stopped\":\"$stopped\",\"oom\":$oom,\"sizes\":{\"stdout\":$at_o,\"stderr\":$at_e}}"
say x "$end"
printf %s "$end" >/dev/termination-log
# Whoever looks at what a failed run left finds nothing of its launch, neither in the volume nor in the memory of this process.
[ "$KEEP" -eq 0 ] || exec /bin/sh -c 'rm -rf private/* private/.[!.]* private/..?*; trap "exit 0" TERM; sleep "$1" & wait' kept "$KEEP"
