# Aliases for people who have make; run.py needs only Python.
.PHONY: check demo fast

check:
	python3 run.py test

demo:
	python3 run.py demo

fast:
	.venv/bin/python scripts/check.py --fast
