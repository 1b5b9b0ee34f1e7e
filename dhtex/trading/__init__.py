"""The maker's desk and the taker's desk: who gets an order, decided once, and how the other side learns of it."""
