"""Controllers: each drives one kind of object to what its spec says. One controller a file."""
