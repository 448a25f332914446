"""The same networks for processors without an accelerator, in float32: fewer multiplications."""
