"""A Triton server of our own: started, watched, cured, asked and ended."""
