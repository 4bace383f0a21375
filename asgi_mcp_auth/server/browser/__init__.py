"""Browsers: who is signed in, which transactions they have begun, and which forms are ours."""
