"""What runs an agent. Only this package knows a vendor."""
