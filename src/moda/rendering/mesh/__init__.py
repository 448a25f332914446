"""The mesh renderer: a photograph, bent and painted."""
