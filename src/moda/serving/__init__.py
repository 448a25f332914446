"""Servers and pages in front of the pipeline. They hold no logic of their own."""
