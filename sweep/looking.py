"""Looking at many addresses of the checkpoint store, several at a time: most of a look is waiting for it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

LOOKS_AT_ONCE = 16
LOOKS_AHEAD = 4 * LOOKS_AT_ONCE
"""So many looks are asked for before the first of them is wanted: none is waited for, and few are in vain."""

SECONDS_BETWEEN_QUESTIONS = 0.2
"""How often is asked whether no more is wanted, while a look takes its time."""

Found = TypeVar("Found")


def looks(
    addresses: Iterable[str], look: Callable[[str], Found], *, is_over: Callable[[], bool] = bool
) -> Iterator[tuple[str, Found]]:
    """Look at one address after the other; yields each with what was found there, in their order.

    Args:
        addresses: Where to look.
        look: Looks at one; is called in other threads.
        is_over: Asked all the time; once true, no more is yielded. Default: never.

    Raises:
        StorageError: As `look`.
    """
    left, begun = iter(addresses), deque[tuple[str, Future[Found]]]()
    pool = ThreadPoolExecutor(LOOKS_AT_ONCE, thread_name_prefix="look")
    try:
        while not is_over():
            more = islice(left, LOOKS_AHEAD - len(begun))
            begun.extend((address, pool.submit(look, address)) for address in more)
            if not begun:
                return
            address, found = begun[0]
            if wait([found], SECONDS_BETWEEN_QUESTIONS).done:
                begun.popleft()
                yield address, found.result()
    finally:
        # Whoever asks to stop is not to wait for a store that does not answer.
        pool.shutdown(wait=False, cancel_futures=True)
