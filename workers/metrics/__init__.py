"""Metrics for Prometheus: names.py says what there is.

What the ledger knows is asked at scrape time and served by Flower (ledger.py, page.py); what only worker processes
know is counted by them (measured.py) and served by the worker's main process (server.py).
"""
