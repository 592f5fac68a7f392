"""What this machine gives a server: ports, plain paths, processes, and what is left of them."""
