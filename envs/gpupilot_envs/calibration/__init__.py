"""From recordings to a profile: every parameter with its error, or why it cannot be told."""
