"""Tools for data sets: check one, make one of a plain folder, look at one; the command `anytext data`."""
