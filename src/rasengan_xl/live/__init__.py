"""A page on this machine that follows a comparison while it runs."""
