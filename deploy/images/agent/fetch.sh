#!/bin/sh
# Installs what the lock file in this folder names. A certificate authority of one's own (a proxy's, say) is that of BASE,
# or is given as the build's secret `ca`.
set -eu
ca=/run/secrets/ca
[ -s "$ca" ] || ca=/etc/ssl/certs/ca-certificates.crt
export NODE_EXTRA_CA_CERTS="$ca" npm_config_cafile="$ca"
npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --cache /tmp/npm
# One of them is for this machine. For npm they are optional, so that it is silent about one that it refused.
for package in $(node -p 'Object.keys(require("./package.json").optionalDependencies).join(" ")'); do
    [ ! -d "node_modules/$package" ] || exec rm -rf /tmp/npm
done
grep -hE ' (http fetch|error|verbose reify) ' /tmp/npm/_logs/*.log >&2
echo "fetch: no package of package.json is there for $(uname -m): none is made for it, or what came is not what the lock file names" >&2
exit 1
