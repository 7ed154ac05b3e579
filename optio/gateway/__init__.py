"""The gateway: agents call their models through it, with a key of the attempt in place of the credential, which it adds. It
reserves money before a call, and settles after it. Pure but for `app` and `model_calls`."""
