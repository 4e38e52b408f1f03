"""The process of the service: its signals, its log, systemd, and the supervision of its parts."""
