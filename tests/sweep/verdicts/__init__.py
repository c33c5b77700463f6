"""Tests of `sweep.verdicts`."""
