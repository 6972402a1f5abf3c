"""What came of it: the file, its statistics, the summary.  Needs no compiled core."""
