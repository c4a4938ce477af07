"""Extractors: transformations that ask a language model about the nodes, and put what it says into their metadata."""

from workers.transformations.extractors.keywords import KeywordsExtractor
from workers.transformations.extractors.questions import QuestionsAnsweredExtractor
from workers.transformations.extractors.summary import SummaryExtractor
from workers.transformations.extractors.title import TitleExtractor

__all__ = ["KeywordsExtractor", "QuestionsAnsweredExtractor", "SummaryExtractor", "TitleExtractor"]
