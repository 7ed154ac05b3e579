"""Sign-in of people who have no API token: the interface, and OpenID Connect behind it."""
