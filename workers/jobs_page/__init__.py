"""Jobs in Flower: a tab with all jobs, and a page for each, live from the ledger, with its controls.

page.py puts them into Flower before it starts; handlers.py answers its requests; templates/ and static/ are what the
browser gets, in the words and colours of Flower's own pages.
"""
