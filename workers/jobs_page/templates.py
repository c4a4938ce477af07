"""Flower's templates and ours, and our tab in the navigation bar of all its pages."""

from __future__ import annotations

from pathlib import Path

from tornado.template import Loader, Template

from orchestrator.contracts.logs import get_logger

__all__ = ["TEMPLATES", "JobsTemplates"]

_log = get_logger(__name__)
TEMPLATES = Path(__file__).parent / "templates"
_NAVBAR = "navbar.html"
_TAB = "jobs_tab.html"
_END_OF_TABS = "</ul>"


class JobsTemplates(Loader):
    """Takes our templates where there are any, else Flower's.

    Args:
        flower_templates: the folder of Flower's.
    """

    def __init__(self, flower_templates: str) -> None:
        super().__init__(flower_templates)

    def _create_template(self, name: str) -> Template:
        ours = TEMPLATES / name
        if ours.is_file():
            return Template(ours.read_bytes(), name=name, loader=self)
        if name == _NAVBAR:
            return Template(self._with_tab(Path(self.root, name).read_text("utf-8")), name=name, loader=self)
        return super()._create_template(name)

    @staticmethod
    def _with_tab(navbar: str) -> str:
        """The bar with our tab behind the last of Flower's."""
        tabs, end, rest = navbar.partition(_END_OF_TABS)
        if not end:
            _log.warning("this Flower's navigation bar has no place for the Jobs tab; the page is at /jobs")
        return tabs + (TEMPLATES / _TAB).read_text("utf-8") + end + rest if end else navbar
