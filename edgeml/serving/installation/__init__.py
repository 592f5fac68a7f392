"""A Triton server without Docker: installed, found, and what it needs of the system."""
