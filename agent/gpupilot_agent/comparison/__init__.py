"""One honest comparison: every policy on the same traffic, in the same world, with certainty."""
