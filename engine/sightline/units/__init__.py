"""What every unit of a layer looks for, over a whole data set."""
