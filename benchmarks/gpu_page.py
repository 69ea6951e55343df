"""The GPU benchmark's result as Markdown."""

from __future__ import annotations

from typing import Any

__all__ = ["page"]

RATES = ("engine", "decode JPEG", "decode BMP", "end to end JPEG", "end to end BMP")
SLOWER = 0.9  # the goal: end to end, of the slower of decode and engine
OF_BOUND = 0.35  # the goal: the engine, of the memory bound


def page(report: dict[str, Any]) -> str:
    """Return the whole page."""
    gpu = report["machine"]["gpu"]
    where = f"{gpu['name']}, driver {gpu['driver']}" if gpu else "no GPU"
    lines = [
        f"{where}; {report['machine']['cpu']}; {report['date']}; {report['seconds']:.0f} s in all",
        f"Host memory at most {report['host_peak_mib']:,.0f} MiB.",
        *_bounds(report),
        "",
        *_rates(report),
        "",
        *_checks(report),
        "",
        *_peers(report),
    ]
    if report["means_nothing"]:
        lines.append("\nA try-out with --quick: these numbers mean nothing.")
    return "\n".join(lines) + "\n"


def _bounds(report: dict[str, Any]) -> list[str]:
    """Say what the memory allows."""
    lines = []
    for size, bound in report["bounds"].items():
        moved = f"at {size}: one cell moves {bound['bytes_per_cell'] / 1e6:.1f} MB"
        if bound["cells_per_s"]:
            speed = report["bandwidth_bytes_per_s"] / 1e12
            moved += f", so {bound['cells_per_s']:,.0f} cells/s at {speed:.2f} TB/s"
        lines.append(f"Memory bound {moved}.")
    return lines


def _rates(report: dict[str, Any]) -> list[str]:
    """Rates, and the two goals' ratios."""
    head = ("runtime", "size", *RATES, f"of bound (goal {OF_BOUND})")
    head += (f"JPEG of slower (goal {SLOWER})", f"BMP of slower (goal {SLOWER})", "GPU MiB")
    return _table(head, [_rate_row(row, report) for row in report["rows"]])


def _rate_row(row: dict[str, Any], report: dict[str, Any]) -> list[str]:
    """One runtime at one size."""
    if "engine" not in row:
        return [row["runtime"], str(row["size"]), *["not measured"] * 9]
    bound = report["bounds"][row["size"]]["cells_per_s"]
    shares = [
        row[f"end to end {form}"] / min(row["engine"], row[f"decode {form}"])
        for form in ("JPEG", "BMP")
    ]
    return [
        row["runtime"],
        str(row["size"]),
        *(f"{row[name]:,.0f}" for name in RATES),
        f"{row['engine'] / bound:.2f}" if bound else "-",
        *(f"{share:.2f}" for share in shares),
        f"{row['gpu_mib']:,.0f}" if row["gpu_mib"] else "-",
    ]


def _checks(report: dict[str, Any]) -> list[str]:
    """What was held against the reference."""
    rows = []
    for row in report["rows"]:
        if "largest_dp" not in row:
            rows.append([row["runtime"], str(row["size"]), row["why"], "", "", ""])
            continue
        codecs = {codec for each in row["pixels"].values() for codec in each["codecs"]}
        verdict = "agrees" if row["agrees"] else "DOES NOT AGREE"
        bits = row["repeats_bit_for_bit"] and row["alone_bit_for_bit"]
        rows.append(
            [
                row["runtime"],
                str(row["size"]),
                verdict,
                f"{row['largest_dp']:.2g}",
                "same bits" if bits else "OTHER BITS",
                ", ".join(sorted(codecs)),
            ]
        )
    head = ("runtime", "size", "against the reference", "largest difference of a probability")
    return _table((*head, "repeated, and alone", "decoded by"), rows)


def _peers(report: dict[str, Any]) -> list[str]:
    """What people would write, and how the best engine compares."""
    rows = []
    for peer in report["peers"]:
        engines = [row.get("engine", 0.0) for row in report["rows"] if row["size"] == peer["size"]]
        rate = peer["cells_per_s"]
        faster = f"{max(engines, default=0.0) / rate:.2f}" if rate else "-"
        shown = f"{rate:,.0f}" if rate else f"not measured: {peer['why']}"
        rows.append([peer["peer"], str(peer["size"]), shown, faster])
    return _table(("peer", "size", "cells/s", "our fastest engine is faster"), rows)


def _table(head: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    """Return Markdown."""
    lines = [list(head), ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]
