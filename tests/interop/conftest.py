"""The fixtures of the netns suite, for clients that others wrote."""

import importlib.util
import os
import sys

NETNS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../netns")
sys.path.insert(0, NETNS)

_spec = importlib.util.spec_from_file_location("netns_conftest", f"{NETNS}/conftest.py")
_netns = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_netns)
globals().update({name: value for name, value in vars(_netns).items() if not name.startswith("__")})
