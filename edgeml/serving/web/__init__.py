"""A small HTTP app over one bundle: ``edgeml serve``. Behind the extra [serve].

It answers items through the bundle's own task, in a few threads behind a bounded queue. What it
refuses to be: a server for several models, or one that faces the internet; put a proxy before it.
"""

from __future__ import annotations

from edgeml._optional import require

require("fastapi", extra="serve")
require("uvicorn", extra="serve")
