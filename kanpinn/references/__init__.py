"""Reference solutions that have no closed form, computed to near machine precision without any network."""
