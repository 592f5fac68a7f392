"""What a bundle becomes in a model repository: configurations, contract, files."""
