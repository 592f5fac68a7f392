"""Re-rank for diversity: relevance against what is already shown."""

from edgeml.recommending.reranking.determinant import rerank_by_determinant
from edgeml.recommending.reranking.margin import rerank_by_margin

__all__ = ["rerank_by_determinant", "rerank_by_margin"]
