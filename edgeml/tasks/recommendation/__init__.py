"""What a recommender takes and gives: interactions, encoders, point-in-time features. Numpy only."""
