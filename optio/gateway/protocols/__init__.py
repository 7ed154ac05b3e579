"""Protocols of model services, as far as the gateway must understand them. Pure."""
