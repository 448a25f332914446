"""The report: files, tables, plots, page."""
