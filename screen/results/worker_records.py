"""What one part of a run (``--part 3/32``) was screened by: a JSON file each, beside the parts'."""

# ruff: noqa: TC001  (these hints are evaluated when a record is read)

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.errors import ResultsError
from engines.files import files_in, make_folder, whole_file
from engines.json_records import record_from_json, record_to_json
from screen.results.run_record import WorkerRecord
from screen.results.tables import reading, writing
from screen.share import Share

if TYPE_CHECKING:
    from engines.locations import Location
    from screen.results.folder import ResultsFolder

__all__ = ["ShareRecord", "read_share_record", "share_records", "write_share_record"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRecord:
    """
    A share of a run that is done.

    Attributes:
        fingerprint: Digest of the run.
        share: Which.
        worker: What screened it.
    """

    fingerprint: str
    share: Share
    worker: WorkerRecord


def write_share_record(results: ResultsFolder, record: ShareRecord) -> None:
    """
    Write it, whole or not at all.

    Raises:
        ResultsError: If the system refuses.
    """
    path = _path(results, record.share)
    with writing(path):
        make_folder(path.parent)
        with whole_file(path) as scratch:
            scratch.write_text(json.dumps(record_to_json(record), indent=2) + "\n")


def read_share_record(results: ResultsFolder, share: Share) -> ShareRecord | None:
    """
    Return the record of a share, or None if there is none.

    Raises:
        ResultsError: If it is damaged.
    """
    path = _path(results, share)
    return _read(path) if path.exists() else None


def share_records(results: ResultsFolder, digest: str) -> list[ShareRecord]:
    """Return those of the run with this *digest*; what is damaged is said in the log."""
    found = []
    for path in files_in(results.records, "share-*.json"):
        try:
            found.append(_read(path))
        except ResultsError as error:
            log.warning("%s: run.json will not say what screened that part", error)
    return [record for record in found if record.fingerprint == digest]


def _read(path: Location) -> ShareRecord:
    """Read one."""
    with reading(path):
        return record_from_json(ShareRecord, json.loads(path.read_bytes()))


def _path(results: ResultsFolder, share: Share) -> Location:
    """Return where the record of a share goes."""
    return results.records / f"share-{share.number:05d}-of-{share.of:05d}.json"
