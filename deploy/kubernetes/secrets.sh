#!/bin/sh
# Make the Secrets that the manifests name, with passwords that nobody has to know. What is in the cluster already is kept: the
# cluster has the only copy, nothing is written to disk, and no value stands in an argument.
# It needs no other file: `curl -sSf https://git.example.com/.../secrets.sh | sh -s complete` does the same.
set -eu
kubectl=${KUBECTL:-kubectl}
namespace=${2:-optio}
usage='./secrets.sh complete [NAMESPACE]                                               PostgreSQL and Redis inside
OPTIO_DATABASE_URL=... OPTIO_REDIS_URL=... ./secrets.sh external [NAMESPACE]    those of your own
The namespace is `optio` by default.'

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
there() { [ -n "$($kubectl -n "$namespace" get secret "$1" --ignore-not-found -o name)" ]; }

# secret NAME KEY VALUE [KEY VALUE]
secret() {
    name=$1
    shift
    {
        printf 'apiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n  labels: {app.kubernetes.io/part-of: optio}\ndata:\n' "$name"
        while [ $# -gt 0 ]; do
            printf '  %s: %s\n' "$1" "$(printf %s "$2" | base64 | tr -d '\n')"
            shift 2
        done
    } | $kubectl -n "$namespace" create -f -
}

case "${1:-}" in
complete) ;;
external)
    # A database that nobody named would be one that nobody keeps.
    there optio-database || : "${OPTIO_DATABASE_URL:?postgresql://USER:PASSWORD@HOST/DATABASE}"
    there optio-redis || : "${OPTIO_REDIS_URL:?redis://:PASSWORD@HOST:6379/0}"
    ;;
*)
    echo "$usage" >&2
    exit 2
    ;;
esac

[ -n "$($kubectl get namespace "$namespace" --ignore-not-found -o name)" ] ||
    $kubectl create namespace "$namespace" --save-config
there optio-admin || secret optio-admin token "optio_$(random)"
there optio-egress || secret optio-egress key "$(random)"
if [ "$1" = external ]; then
    there optio-database || secret optio-database url "$OPTIO_DATABASE_URL"
    there optio-redis || secret optio-redis url "$OPTIO_REDIS_URL"
    exit
fi
if ! there optio-database; then
    password=$(random)
    secret optio-database password "$password" url "postgresql://optio:$password@optio-postgres:5432/optio"
fi
if ! there optio-redis; then
    password=$(random)
    secret optio-redis conf "requirepass $password
" url "redis://:$password@optio-redis:6379/0"
fi
