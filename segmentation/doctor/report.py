"""The results of an inspection, as text and as plain data for JSON."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segmentation.data import SegmentationDataset
from segmentation.data.findings import KINDS, Finding, Severity
from segmentation.data.survey import Survey
from segmentation.doctor.scan import Scan
from segmentation.errors import printable
from segmentation.planner import Choice

_SHOWN = 3  # files of a finding in the text
_ORDER = list(KINDS)


@dataclass(frozen=True)
class Inspection:
    """What was found in the data `title`; where their layout could not be read, only the findings."""

    title: str
    findings: Sequence[Finding]
    strict: bool = False
    dataset: SegmentationDataset | None = None
    scans: Sequence[Scan] = ()
    seen: Survey | None = None
    choices: Sequence[Choice] = ()
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> Counter[Severity]:
        """The number of findings of each severity."""
        return Counter(finding.severity for finding in self.findings)

    @property
    def status(self) -> int:
        """The exit status: 2 where a training would be wrong, and if `strict` for warnings, else 0."""
        return 2 if self.count["error"] or (self.strict and self.count["warning"]) else 0

    @property
    def verdict(self) -> str:
        """`1 error, 2 warnings, no notes`."""
        names: tuple[Severity, ...] = ("error", "warning", "note")
        return ", ".join(
            f"{self.count[name] or 'no'} {name}{'' if self.count[name] == 1 else 's'}" for name in names
        )

    @property
    def facts(self) -> dict[str, str]:
        """The fingerprint of the data: what there is, and how large it is."""
        if self.dataset is None:
            return {}
        images = ", ".join(f"{len(scan.samples)} {scan.split}" for scan in self.scans)
        classes = f"{len(self.dataset.classes)}: {', '.join(self.dataset.classes.names)}"
        found = {"images": images, "classes": classes, "bands": str(self.dataset.channels)}
        sizes = np.concatenate([scan.sizes[scan.readable] for scan in self.scans])
        if len(sizes):
            areas = sizes.prod(axis=1, dtype=np.int64)
            ends = (sizes[areas.argmin()], np.median(sizes, axis=0), sizes[areas.argmax()])
            low, middle, high = (f"{int(width)}x{int(height)}" for height, width in ends)
            found["sizes"] = low if low == high else f"{low} to {high}, usually {middle}"
        if self.seen is not None and self.seen.small_object is not None:
            found["small objects"] = (
                f"{self.seen.small_object:.0f} pixels (a tenth of the objects are smaller)"
            )
        return found


def class_table(scans: Sequence[Scan]) -> list[dict[str, Any]]:
    """For each class and for ignored pixels, by split: the share of the pixels and of the masks that hold it.

    The median size of a class's objects is that in train; None for the background and for classes without objects.
    """
    names = [*scans[0].classes.names, "ignored"]
    rows: list[dict[str, Any]] = []
    for label, name in enumerate(names):
        shares = {}
        for scan in scans:
            counts = scan.counts[scan.readable]
            total = max(1, int(counts.sum(dtype=np.int64)))
            shares[scan.split] = {
                "pixels": float(counts[:, label].sum(dtype=np.int64) / total),
                "masks": float((counts[:, label] > 0).mean()) if len(counts) else 0.0,
            }
        size = scans[0].median_object(label) if label < len(names) - 1 else None
        rows.append({"name": name, "splits": shares, "object": size})
    ignored = any(share["pixels"] for share in rows[-1]["splits"].values())
    return rows if ignored else rows[:-1]


def as_json(inspection: Inspection) -> dict[str, Any]:
    """Plain data: all findings with all of their files, the fingerprint, the classes and the plan."""
    return {
        "data": inspection.title,
        "exit_status": inspection.status,
        "findings": [
            {
                "id": finding.id,
                "severity": finding.severity,
                "count": len(finding.files),
                "text": finding.text,
                "cure": list(finding.cure),
                "files": list(finding.files),
            }
            for finding in inspection.findings
        ],
        "fingerprint": inspection.facts,
        "classes": class_table(inspection.scans) if inspection.scans else [],
        "notes": list(inspection.dataset.notes) if inspection.dataset else [],
        "plan": [choice._asdict() for choice in inspection.choices],
    }


def as_text(inspection: Inspection) -> str:
    """For the console: short, aligned, in printable characters."""
    lines = [inspection.title, *(f"  {name:14}{text}" for name, text in inspection.facts.items())]
    if inspection.scans:
        lines += ["", *_table(inspection)]
    if inspection.dataset is not None and inspection.dataset.notes:
        lines += ["", *inspection.dataset.notes]
    lines += ["", "Findings: " + inspection.verdict]
    for finding in inspection.findings:
        lines.append(f"{finding.severity:8}{finding.id}: {finding.text}")
        shown = list(finding.files[:_SHOWN]) if len(finding.files) else []
        lines += [f"{'':8}  {file}" for file in shown]
        if len(finding.files) > len(shown):
            lines.append(f"{'':8}  and {len(finding.files) - len(shown)} more (format=json lists all)")
        lines += [f"{'':8}cure: {cure}" for cure in finding.cure]
    if inspection.choices:
        lines += ["", "Plan: what plan=auto would choose"]
        width = max(len(f"{choice.key}={choice.value}") for choice in inspection.choices)
        lines += [
            f"  {f'{choice.key}={choice.value}':{width}}  {choice.reason}" for choice in inspection.choices
        ]
    return "\n".join(map(printable, lines))


def _table(inspection: Inspection) -> list[str]:
    every = class_table(inspection.scans)
    rows = [row for row in every if any(share["pixels"] for share in row["splits"].values())]
    if not rows:
        return []
    width = max(len("class"), *(len(row["name"]) for row in rows))
    splits = list(rows[0]["splits"])
    head = f"{'class':{width}}" + "".join(f"{split + ' pixels':>14}{'masks':>7}" for split in splits)
    lines = [f"{head}{'median object':>16}"]
    for row in rows:
        shares = "".join(
            f"{row['splits'][split]['pixels']:>14.2%}{row['splits'][split]['masks']:>7.0%}"
            for split in splits
        )
        size = "-" if row["object"] is None else f"{row['object']:.0f}"
        lines.append(f"{row['name']:{width}}{shares}{size:>16}")
    absent = len(every) - len(rows)
    return [*lines, f"and {absent} that {'occurs' if absent == 1 else 'occur'} nowhere"] if absent else lines


def chosen(findings: Sequence[Finding], only: Sequence[str], skip: Sequence[str]) -> list[Finding]:
    """The findings with an id in `only` (if there are any) and not in `skip`, errors first, in the order of `KINDS`."""
    kept = [each for each in findings if (not only or each.id in only) and each.id not in skip]
    return sorted(kept, key=lambda each: _ORDER.index(each.id))
