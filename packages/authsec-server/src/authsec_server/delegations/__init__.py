"""Roles, and the trust delegations that give a part of one to an agent for a while."""
