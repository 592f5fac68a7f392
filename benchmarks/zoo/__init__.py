"""A zoo of models: for each, our search beside fixed recipes and beside NNCF on OpenVINO.

``python -m benchmarks.zoo`` builds the members, runs the searches, makes the peers' files, times
all of them in turns and writes the table. What exists is kept, so that it can be stopped.
"""
