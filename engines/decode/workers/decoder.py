"""A decoder whose cells are read and decoded in worker processes."""

from __future__ import annotations

import itertools
import os
import pickle
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from engines.cells import Batch, CellFacts, Fault
from engines.decode.prefetch import PrefetchingDecoder
from engines.decode.workers.messages import Opening, Spent, Task, Work, ref_rows
from engines.decode.workers.pool import WorkerDiedError, shared_pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engines.cells import CellRef, Read, Shard
    from engines.decode.base import DecodeOptions
    from engines.decode.workers.messages import Decoded
    from engines.decode.workers.pool import Worker
    from engines.decode.workers.slab import Slab
    from engines.models.input import ModelInput

__all__ = ["WorkerDecoder"]

TRIES = 2  # of a batch whose worker dies, before its cells are tried one by one

_numbers = itertools.count(1)
_closed: set[int] = set()  # work that is over, which workers may forget


class WorkerDecoder(PrefetchingDecoder):
    """
    A Decoder (see ``engines.decode.base``) that has another one work in processes.

    What a cell becomes does not depend on the cells beside it: where a worker dies, or a batch
    takes more than one cell may, each of its cells is tried alone.
    """

    look_ahead_cells = 2048
    cells_at_once = 32  # a message costs as much as decoding a tenth of a cell

    def __init__(
        self, opener: str, read: Read, expected: ModelInput, options: DecodeOptions
    ) -> None:
        """
        Open the decoder in a worker, to learn its name and that it works.

        Args:
            opener: Import string of the function that opens it.
            read: Can be pickled.
            expected: What the model takes.
            options: How cells are decoded, and in how many workers.
        """
        # A thread more than workers, so that the next cells wait for a worker, not it for them.
        super().__init__(read, expected, replace(options, threads=options.workers + 1))
        self._pool = shared_pool(options.workers, opener.partition(":")[0])
        self._number = next(_numbers)
        self._opening = pickle.dumps(Work(opener, read, expected, options))
        self._limits = options.cell_limits
        weakref.finalize(self, _closed.add, self._number)
        with self._pool.worker() as worker:
            opened = worker.open(self._begun(worker))
        self.name = opened.name
        self.version = f"{opened.version}, in worker processes"

    @property
    def process_ids(self) -> list[int]:
        """The workers that run now."""
        return self._pool.process_ids

    def decode_batch(self, shard: Shard, refs: tuple[CellRef, ...]) -> Batch:
        """Have some cells decoded; call from a thread of the pool."""
        for left in reversed(range(TRIES)):
            try:
                return _batch(shard, refs, *self._asked(refs))
            except WorkerDiedError as died:
                reason = self._reason(died)
                if died.out_of_time or not left:
                    break
            except MemoryError:
                reason = f"it takes more than {self._limits.memory / 2**20:.0f} MiB of memory"
                break
        if len(refs) == 1:
            return self._set_aside(shard, refs[0], reason)
        return _joined(shard, [self.decode_batch(shard, (ref,)) for ref in refs])

    def _asked(self, refs: Sequence[CellRef]) -> tuple[Decoded, NDArray[np.uint8]]:
        """
        Lend a worker and have it decode; return its answer and the pixels.

        Raises:
            WorkerDiedError: If it ended instead.
            MemoryError: If the cells took more memory than one may.
        """
        with self._pool.worker() as worker:
            if self._number not in worker.seen:
                worker.open(self._begun(worker))
            slab = worker.slab()
            answer = worker.decode(Task(self._number, ref_rows(refs), slab.number), slab)
        if isinstance(answer, Spent):
            worker.free.append(slab)
            raise MemoryError  # noqa: TRY004
        memory = slab.view(int(np.prod(answer.shape)))
        weakref.finalize(memory, _returned, worker, slab).atexit = False
        return answer, memory[: int(np.prod(answer.shape))].reshape(answer.shape)

    def _begun(self, worker: Worker) -> Opening:
        """Return what has the decoder opened in a worker."""
        return Opening(self._number, self._opening, tuple(worker.seen & _closed), dict(os.environ))

    def _reason(self, died: WorkerDiedError) -> str:
        """Say why a cell cannot be decoded."""
        if died.out_of_time:
            return f"it takes more than {self._limits.seconds:g} s of processor time"
        return f"decoding it ends the process that does ({died})"

    def _set_aside(self, shard: Shard, ref: CellRef, reason: str) -> Batch:
        """Return no pixels, and the fault of a cell that no process survives."""
        empty = np.empty((0, self.expected.height, self.expected.width, 3), np.uint8)
        return Batch(shard, (), (), empty, (Fault(ref, "undecodable", reason),))


def _returned(worker: Worker, slab: Slab) -> None:
    """Let a slab be used again: nothing looks at it any more."""
    slab.shrink()
    worker.free.append(slab)


def _batch(
    shard: Shard, refs: Sequence[CellRef], answer: Decoded, pixels: NDArray[np.uint8]
) -> Batch:
    """Put the refs back to what came of them."""
    return Batch(
        shard=shard,
        refs=tuple(refs[index] for index in answer.indices),
        facts=tuple(CellFacts(*row) for row in answer.facts),
        pixels=pixels,
        faults=tuple(replace(fault, ref=refs[index]) for index, fault in answer.bad),
        quality=answer.quality,
    )


def _joined(shard: Shard, parts: Sequence[Batch]) -> Batch:
    """Make one batch of several."""
    measured = [part.quality for part in parts if part.quality is not None]
    return Batch(
        shard=shard,
        refs=tuple(ref for part in parts for ref in part.refs),
        facts=tuple(facts for part in parts for facts in part.facts),
        pixels=np.concatenate([part.host_pixels for part in parts]),
        faults=tuple(fault for part in parts for fault in part.faults),
        quality=np.concatenate(measured) if measured else None,
    )
