"""The serving stack on one machine: real Triton, Envoy and Prometheus, one command up and down."""
