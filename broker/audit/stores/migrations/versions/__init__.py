"""Alembic's revisions; each is loaded by its path."""
