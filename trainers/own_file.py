"""A Python file of the user's own: what it is called by, and how it is run.

Models (`trainers.models.user`) and measurements (`trainers.probes.user`) come from such files.
"""

import hashlib
import sys
from types import ModuleType


def digest_of(source: bytes) -> str:
    """Return the address of a file's content."""
    return f"sha256:{hashlib.sha256(source).hexdigest()}"


def run_source(source: bytes, path: str, prefix: str) -> ModuleType:
    """Run a file's content, and return the module that it makes.

    The module stands in `sys.modules`, where dataclasses, type hints and pickles look for it, under a name of
    its digest; where it is run again, the newest.

    Args:
        source: The content.
        path: Where it came from, for `__file__` and tracebacks.
        prefix: What the module's name begins with.

    Raises:
        Exception: What the file raises; the module is taken out again.
    """
    module = ModuleType(f"{prefix}_{digest_of(source)[-16:]}")
    module.__file__ = path
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, path, "exec"), module.__dict__)
    except BaseException:
        sys.modules.pop(module.__name__, None)
        raise
    return module
