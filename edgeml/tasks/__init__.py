"""Pre- and post-processing, once for everybody: numpy, and pillow where pictures are decoded."""
