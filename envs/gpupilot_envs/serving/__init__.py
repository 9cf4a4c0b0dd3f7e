"""The event-level world: every request, every batch, every pod; the truth results come from."""
