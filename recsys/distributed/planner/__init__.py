"""Plans which device holds which table, without any device."""
