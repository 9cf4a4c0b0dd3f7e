"""The interval-level world: thousands of services per compiled call, fitted to the event level."""
