"""Imported by a part of Optio: its machine has another name, so it takes no shortcut of this machine."""

import os
import socket

_name = os.environ["STORY_HOST"]
socket.gethostname = lambda: _name
