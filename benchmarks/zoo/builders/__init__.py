"""How each member is made; a module's functions take nothing and return a ``Built``."""
