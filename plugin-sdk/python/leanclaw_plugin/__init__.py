"""Write LeanClaw plugins in Python.

``leanclaw_plugin.skill``, ``methods``, ``hook``, ``channel``, ``poll`` and ``socket`` make what a plugin exports. The
host's interfaces are modules of their own (``http``, ``kv``, ``log``, ``settings``, ``events``, ``credentials``,
``inbox``): import one only where the plugin's world has it.
"""

from .context import Caller, Context
from .failure import PluginFailure
from .schema import Field

__all__ = ["Caller", "Context", "Field", "PluginFailure"]
