"""The Hydra config groups that come with kanpinn."""
