"""Which table lies where on many devices: plans that can be read before any device is rented."""
