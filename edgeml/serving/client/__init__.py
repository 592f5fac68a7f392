"""A predictor on the other side of a network: engines, transports, tasks, errors."""
