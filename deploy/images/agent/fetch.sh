#!/bin/sh
# Installs what the lock file in this folder names. A certificate authority of one's own (a proxy's, say) is that of BASE,
# or is given as the build's secret `ca`.
set -eu
ca=/run/secrets/ca
[ -s "$ca" ] || ca=/etc/ssl/certs/ca-certificates.crt
export NODE_EXTRA_CA_CERTS="$ca" npm_config_cafile="$ca"
npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --cache /tmp/npm
rm -rf /tmp/npm
