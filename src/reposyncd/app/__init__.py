"""Commands, as an application has them: in this process, or asked of the service."""
