"""A results folder as one HTML page: self-contained, for people."""

from __future__ import annotations

from screen.report.build import Report, ReportOptions, write_report

__all__ = ["Report", "ReportOptions", "write_report"]
