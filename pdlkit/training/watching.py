"""Those who look on while something runs, and how they are told."""

from collections.abc import Callable, Sequence

Watch = Callable | Sequence[Callable]


def watchers_of(watch: Watch) -> list[Callable]:
    """Return what was given to look on, as a list: one function or several."""
    return [watch] if callable(watch) else list(watch)


def tell(watchers: Sequence[Callable], what: str, news) -> None:
    """Call the method of this name of every watcher that has it."""
    for watcher in watchers:
        getattr(watcher, what, lambda _: None)(news)
