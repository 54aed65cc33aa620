"""What stands beside a checkpoint: scalers, vocabularies and configurations, read without running any code."""
