"""What the host of this sandbox offers to a script.

    from capibara import tools          # what was granted: dir(tools), help(tools.NAME)
    tools.add(a=1, b=2)                 # waits and returns the value
    await tools.aio.add(a=1, b=2)       # lets others go on meanwhile

    from capibara import display        # leaves a rich representation of an object in /out
"""

from ._display import display
from ._tools import ToolArgumentError, ToolError, ToolTimeout, tools

__all__ = ["ToolArgumentError", "ToolError", "ToolTimeout", "display", "tools"]
