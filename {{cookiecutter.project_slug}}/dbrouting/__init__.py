"""Read/write routing that never shows anybody something older than their own write. README.md tells how."""

from dbrouting.context import (
    consistency_context,
    current_token,
    mark_write,
    use_primary,
    use_replica,
    with_token,
)

__all__ = ["consistency_context", "current_token", "mark_write", "use_primary", "use_replica", "with_token"]
