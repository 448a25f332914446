"""Videos on request: a queue, and the process that makes them."""
