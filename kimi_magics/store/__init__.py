"""The only room that reads and writes files: settings, prices, what is known of the models."""
