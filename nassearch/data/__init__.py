"""Images: data sets, how they are read, augmented and split."""
