"""Watch a pass on the meta device: keep the books of its memory and of its work."""

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rasengan_xl.planning.ledger import Ledger
from rasengan_xl.planning.work import Work, describe, is_view


class Recorder(TorchDispatchMode):
    """Notes every storage when it is made and when it dies, and every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.work = Work()
        self._numbers: dict[int, int] = {}
        self._watched: dict[int, weakref.ref[Any]] = {}
        self._names: dict[Any, str] = {}

    def hold(self, tensors: Iterable[Tensor], origin: str) -> None:
        """Note tensors that were made before the pass."""
        for tensor in tensors:
            self._note(tensor, origin)

    def number_of(self, tensor: Tensor) -> int | None:
        """Return the number under which a tensor's storage is noted."""
        return self._numbers.get(_identity(tensor.untyped_storage()))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Carry out an operation and note it."""
        result = func(*args, **(kwargs or {}))
        name = self._names.get(func)
        if name is None:
            name = self._names[func] = func.overloadpacket.__name__
        if is_view(name):
            return result
        for tensor in _tensors(result):
            self._note(tensor, name)
        self.work.operations[describe(func, name, args, kwargs or {}, result)] += 1
        return result

    def _note(self, tensor: Tensor, origin: str) -> None:
        storage = tensor.untyped_storage()
        identity = _identity(storage)
        if identity in self._numbers:
            return
        self._numbers[identity] = number = self.ledger.take(storage.nbytes(), origin)

        def forget(_: Any) -> None:
            del self._numbers[identity], self._watched[identity]
            self.ledger.give_back(number)

        self._watched[identity] = weakref.ref(storage, forget)


def _identity(storage: Any) -> int:
    """Return where a storage lies; PyTorch has no public name for it."""
    return storage._cdata  # noqa: SLF001


def _tensors(result: Any) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, (list, tuple)):
        for item in result:  # pyright: ignore[reportUnknownVariableType]
            yield from _tensors(item)
