"""What serving stands: publishing under load, faults, canaries, cascades, overload."""
