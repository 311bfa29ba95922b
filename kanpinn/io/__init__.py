"""Files of a run: written atomically, read back with one clear line when something is wrong."""
