"""The recorder of model calls: it masks a request and its answer, and stores them. Used with OPTIO_GATEWAY_RECORD=runs."""

from optio.errors import SecretUnavailable
from optio.gateway.passing_call import MAX_RECORDED_BYTES, PassingCall
from optio.gateway.recording import mask_answer, mask_request
from optio.model.mask import Masker
from optio.model.model_call import AttemptKey, CallRecording, Omission
from optio.secrets.base import Secrets
from optio.store.base import GatewayStore


class CallRecorder:
    """Records calls of any run. It may wait for secrets and for the store."""

    def __init__(self, store: GatewayStore, secrets: Secrets) -> None:
        self._store, self._secrets = store, secrets

    def record(self, passing: PassingCall, answer: bytes) -> None:
        """Store a call without secrets, or that it was omitted. Raises StoreUnavailable."""
        call = passing.call
        values = self._values(call.key)
        omitted: Omission | None = "secrets" if values is None else "size" if len(answer) > MAX_RECORDED_BYTES else None
        masker = Masker([*(values or ()), call.token])
        recording = CallRecording(
            path=call.path,
            status=passing.status,
            content_type=passing.content_type,
            is_whole=passing.is_whole,
            request=None if omitted else mask_request(passing.body, masker),
            answer=b"" if omitted else mask_answer(answer, masker),
            omitted=omitted,
        )
        self._store.record_call(call.key, passing.id, recording)

    def _values(self, key: AttemptKey) -> list[str] | None:
        """Return the values of all secrets of the run; None if one of them is not known here, so nothing could mask it."""
        if key.secrets is None:
            return None
        try:
            values = [self._secrets.get(name) for name in {*key.secrets, key.credential or ""} - {""}]
        except SecretUnavailable:
            return None
        known = [value for value in values if value is not None]
        return known if len(known) == len(values) else None
