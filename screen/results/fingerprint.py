"""What makes two runs the same run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from screen.results.schema import FINGERPRINT_KEY

__all__ = ["Fingerprint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Everything that can change a row of the results; nothing that cannot."""

    bundle: str
    selection: str
    columns: str
    box_margin: int
    slide_rule: str
    shard_cells: int
    decoder: str
    decode_on: str
    max_pixels: int
    limits: str
    runtime: str
    precision: str
    batch: int
    coverage: float
    embeddings: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 of the fields."""
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """What marks a table as this run's."""
        return {FINGERPRINT_KEY: self.digest.encode()}
