"""The checkpoint store: what a trial makes durable, on any file system that pyarrow knows.

`files` puts and gets whole files, `layout` names them, `parts` is the encoding of histories, `joining` says
when parts become one, `manifest` says what was committed, and `store` joins them: a commit is a checkpoint,
then a part of the history, then the manifest that names both with their digests. `pruning` says which files
newer commits make superfluous, and `tidying` removes them as an attempt commits. What no manifest names does
not exist. Nothing in a store is ever unpickled.
"""

from sweep.storage.manifest import Manifest, Part, StoredFile
from sweep.storage.store import Storage
from sweep.storage.tidying import Tidying

__all__ = ["Manifest", "Part", "Storage", "StoredFile", "Tidying"]
