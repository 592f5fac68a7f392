"""How each peer is prepared and opened; each module is imported only in its peer's environment.

A module has ``PACKAGES`` (whose versions the report names), ``open_peer(place)`` and, where it
makes an artefact, ``prepare(artefact, place, texts, out)``.
"""
