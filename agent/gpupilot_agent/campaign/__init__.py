"""Recording campaigns: declared runs of the real serving stack, each made into a folder."""
