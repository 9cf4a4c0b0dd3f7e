"""The decision problem: signals, allocations, guardrail, objective and the world models."""
