"""What a recommender takes and gives: interactions, encoders, history. Numpy only."""
