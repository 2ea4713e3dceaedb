"""What the task caption is made of: its configuration, network and scores."""
