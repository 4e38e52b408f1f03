"""What the engine does from time to time: each module is one `schedule.PeriodicTask`."""
