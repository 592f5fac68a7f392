"""How good a recommender is: full rankings, logged impressions, and what lies beyond accuracy."""
