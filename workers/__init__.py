"""The room that works: the Celery app, the chain of transformations, embedders, vector stores and caches."""
