"""The published Criteo Kaggle vocabulary, uncut: golden sizes are stated on it."""

CRITEO_SIZES = [
    *(1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194),
    *(27, 14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572),
]
CRITEO = {f"C{i}": size for i, size in enumerate(CRITEO_SIZES, start=1)}
