"""What Triton serves: model repositories, the model's code inside Triton, and how to ask it."""
