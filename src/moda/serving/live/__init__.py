"""Live sessions, each in a process of its own."""
