"""The autoscalers people use, faithful to their published rules, behind one port."""
