"""Recipes: data + model + gate -> bundle -> triton_repo, through edgeml's public API only."""
