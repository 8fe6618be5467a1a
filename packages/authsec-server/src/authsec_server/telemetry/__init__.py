"""What those who run the authority see of it: metrics and traces. Never who it works for, nor what for."""
