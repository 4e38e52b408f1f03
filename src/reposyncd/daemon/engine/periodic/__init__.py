"""What the engine does periodically: each module is one `schedule.PeriodicTask`."""
