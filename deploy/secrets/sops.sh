#!/bin/sh
# Print a value of a file that SOPS has encrypted. Used as OPTIO_SECRET_COMMAND, with the file and then the name as arguments:
# OPTIO_SECRET_COMMAND="/opt/optio/deploy/secrets/sops.sh /etc/optio/secrets.enc.yaml". It needs sops, and a key to decrypt.
set -u
exec 3>&1
problem=$(sops decrypt --extract "[\"$2\"]" "$1" 2>&1 >&3) && exit 0
case $problem in *"component ['$2'] not found"* | *"component [\"$2\"] not found"*) exit 3 ;; esac
printf '%s\n' "$problem" >&2
exit 1
