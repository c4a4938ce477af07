"""The ledger: the SQL tables that are the truth, and the store over them."""
