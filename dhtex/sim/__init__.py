"""Whole networks of production nodes in virtual time: one seed is one history, with faults, and with checks."""
