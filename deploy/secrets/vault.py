#!/usr/bin/env python3
"""Print a secret of HashiCorp Vault or OpenBao (KV version 2). Used as `OPTIO_SECRET_COMMAND`, with the name as argument.

VAULT_ADDR          address, such as https://vault.example.com:8200
VAULT_TOKEN         token, or VAULT_TOKEN_FILE: a file that an agent keeps fresh
VAULT_NAMESPACE     namespace, if there are any
VAULT_CACERT        file with the certificate authority
VAULT_KV_MOUNT      mount of the engine, `secret` by default
VAULT_KV_PREFIX     path above the secrets, `optio` by default
VAULT_KV_FIELD      field with the value, `value` by default
"""

import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

NO_SUCH_SECRET = 3


def main(name: str) -> int:
    environ = os.environ
    mount, prefix = environ.get("VAULT_KV_MOUNT", "secret"), environ.get("VAULT_KV_PREFIX", "optio")
    token = environ.get("VAULT_TOKEN") or Path(environ["VAULT_TOKEN_FILE"]).read_text().strip()
    headers = {"X-Vault-Token": token, "X-Vault-Request": "true"}
    if "VAULT_NAMESPACE" in environ:
        headers["X-Vault-Namespace"] = environ["VAULT_NAMESPACE"]
    url = f"{environ['VAULT_ADDR'].rstrip('/')}/v1/{quote(mount)}/data/{quote(f'{prefix}/{name}')}"
    tls = ssl.create_default_context(cafile=environ.get("VAULT_CACERT"))
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=8, context=tls) as answer:  # noqa: S310
            print(json.load(answer)["data"]["data"][environ.get("VAULT_KV_FIELD", "value")])
    except urllib.error.HTTPError as err:
        if err.code == 404:
            return NO_SUCH_SECRET
        print(f"Vault answers {err.code}: {err.read(300).decode('utf-8', 'replace').strip()}", file=sys.stderr)
        return 1
    except KeyError as err:
        print(f"the secret has no field {err}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as err:
        print(f"Vault gives no answer: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[-1]))
