"""Parts that several commands share: flags, the HTTP client, and the rendering of values in a terminal."""
