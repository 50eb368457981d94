"""Helpers that know neither models nor data: messages, safe files, atomic writes, terminal."""
