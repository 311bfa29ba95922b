"""The PDE problems that come with kanpinn, one class in one file each."""
