"""How true the event level is: recorded runs against what it predicts of their arrivals."""
