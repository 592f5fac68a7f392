"""The public verbs: the one place where data, training, exporting, runtime and serving meet."""
