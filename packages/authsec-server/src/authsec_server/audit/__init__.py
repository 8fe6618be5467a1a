"""What was decided and changed, by whom: written first, chained, and checkable by others."""
