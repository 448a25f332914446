"""Weights: checked files of ours, official files, and their downloads.

A download is checked against a SHA-256: that of the catalogue where it is known; else the one that
the hub declares, which is written down with the commit that it was found at, so that later
downloads and checks hold to them (trust on first use).

This package hands nothing on: reading a motion space must not load the networks of a renderer.
"""
