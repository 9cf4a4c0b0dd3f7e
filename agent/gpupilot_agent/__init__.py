"""Policies, training, comparison and the command line: everything that proposes."""
