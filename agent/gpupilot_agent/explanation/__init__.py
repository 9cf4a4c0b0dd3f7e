"""Why a decision was taken, and what its alternatives were worth."""
