"""What depicted people see and decide once they are let in: everything about them."""
