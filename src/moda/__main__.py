"""``python -m moda`` is the ``moda`` command."""

from moda.cli import main

main()
