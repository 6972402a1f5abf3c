"""How it is measured: workers, one at a time, that verify, calibrate and sample."""
