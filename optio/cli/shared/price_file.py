"""The operator's own prices of models, `OPTIO_PRICES`."""

from pathlib import Path

from optio.errors import SettingsError
from optio.model import prices


def use(path: str) -> None:
    """Use the prices of this file in this process; raise SettingsError."""
    try:
        prices.override(prices.parse(Path(path).read_bytes()))
    except OSError as err:
        raise SettingsError(f"OPTIO_PRICES: {path} cannot be read: {err.strerror}") from err
    except prices.PriceError as err:
        raise SettingsError(f"OPTIO_PRICES: {path}: {err}") from err
