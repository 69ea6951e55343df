"""
What can go wrong that the person at the keyboard can mend.

* UserError
  x SourceError          the cells to screen are not there, or there are none
  x BundleError          a model bundle is incomplete, damaged or contradicts itself
  x BackendMissingError  the package or device behind a chosen backend is absent
  x DeviceError          the GPU failed, or has too little memory
  x EngineBuildError     TensorRT cannot build or load a plan
  x ParityError          what would run disagrees with the FP32 reference
  x ResultsError         a results folder is in use, damaged, or belongs to another run
  x SettingsError        a settings file, or a place for logs, cannot be used

Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

__all__ = [
    "BackendMissingError",
    "BundleError",
    "DeviceError",
    "EngineBuildError",
    "ParityError",
    "ResultsError",
    "SettingsError",
    "SourceError",
    "UserError",
]


class UserError(Exception):
    """
    A problem the user can mend.

    Attributes:
        hint: What to do next, one sentence, or empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the message and what to do about it apart."""
        super().__init__(message)
        self.hint = hint


class SourceError(UserError):
    """The cells to screen are not there, or there are none."""


class BundleError(UserError):
    """A model bundle is incomplete, damaged or contradicts itself."""


class BackendMissingError(UserError):
    """The package or device behind a chosen backend is absent."""


class DeviceError(UserError):
    """The GPU failed, or has too little memory."""


class EngineBuildError(UserError):
    """TensorRT cannot build or load a plan for this model and GPU."""


class ParityError(UserError):
    """What would run disagrees with the FP32 reference."""


class ResultsError(UserError):
    """A results folder is in use, damaged, or belongs to another run."""


class SettingsError(UserError):
    """A settings file, or a place for logs, cannot be used."""
