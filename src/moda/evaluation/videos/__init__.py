"""Evaluation of decoded videos against a protocol, whatever method made them."""
