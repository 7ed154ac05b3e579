"""The directory of the built documentation, which the server shows at `/docs` and links to where it exists."""

from pathlib import Path

from optio.settings import Settings

BUILT = Path(__file__).parent / "site"


def site(settings: Settings) -> Path:
    """Return the directory of the built pages, whether or not it exists."""
    return settings.docs or BUILT


def is_built(settings: Settings) -> bool:
    """Return whether there are pages to show."""
    return (site(settings) / "index.html").is_file()
