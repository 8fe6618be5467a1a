"""What services report of their own decisions: who may, and how it gets into the audit."""
