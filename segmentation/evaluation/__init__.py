"""From checkpoints and a data set to a folder of results; options are checked before torch is imported."""
