"""Historians and other databases: what they have stored already, by a query of the operator's."""
