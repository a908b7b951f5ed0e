"""Reports of scores: JSON, Markdown, HTML, CSV files and figures."""

from segmentation.report.protocol import protocol, split_hash
from segmentation.report.report import markdown, table, write_report

__all__ = ["markdown", "protocol", "split_hash", "table", "write_report"]
