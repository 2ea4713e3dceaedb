"""What the task detect is made of: its configuration, network, scores and evidence."""
