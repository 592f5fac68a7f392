"""Serving a bundle: Triton's parts behind the extra ``[triton]``, the HTTP app behind ``[serve]``.

Each package asks for its own extra, so that neither part needs the other's.
"""
