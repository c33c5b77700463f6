"""The projected-SGD trainer: torch only; runs on a bare machine."""
