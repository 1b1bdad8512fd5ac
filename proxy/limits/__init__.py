"""Limits that hold with several processes: what a request may use, asked and taken in one step.

`gate` is what the pipeline calls. `local` counts in this process, `remote` the same in Redis for all
processes. See docs/limits.md.
"""
