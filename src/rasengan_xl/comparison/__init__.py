"""Every arm under identical conditions: what differs, what each cost and gave."""
