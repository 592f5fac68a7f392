"""What every part shares: signature, bundle, predictor, measuring; on numpy alone."""
