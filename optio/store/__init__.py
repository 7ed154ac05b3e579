"""The store: where truth lives. `base` is the seam, `sql/` says each operation once, a driver supplies transactions."""
