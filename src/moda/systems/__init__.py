"""Complete talking faces, and the protocol that the pipeline uses them through."""
