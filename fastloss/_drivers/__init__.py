"""The loop templates, which the engine compiles for each loss."""
