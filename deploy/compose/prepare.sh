#!/bin/sh
# Make what compose.yaml mounts: passwords that nobody has to know, and directories. What is there already is kept.
set -eu
cd "$(dirname "$0")"
mkdir -p secrets tasks.d task-secrets gateway-secrets
# Others on this machine cannot enter the directories; in the containers, other users read the files.
chmod 700 secrets task-secrets gateway-secrets

keep() {
    [ -s "secrets/$1" ] || cat > "secrets/$1"
    chmod 644 "secrets/$1"
}

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

random | keep postgres_password
printf 'postgresql://optio:%s@postgres:5432/optio' "$(cat secrets/postgres_password)" | keep database_url
[ -s secrets/redis_conf ] || printf 'requirepass %s\n' "$(random)" | keep redis_conf
printf 'redis://:%s@redis:6379/0' "$(sed -n 's/^requirepass //p' secrets/redis_conf)" | keep redis_url
