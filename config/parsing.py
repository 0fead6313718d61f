"""Parsers of request bodies. A form has no files."""

from typing import Any, NoReturn

from django.core.files.uploadhandler import FileUploadHandler
from django.http.multipartparser import MultiPartParserError
from rest_framework import parsers
from rest_framework.exceptions import ParseError


class JSONParser(parsers.JSONParser):
    """DRF's parser, but the response to JSON that is nested too deeply is 400, not 500."""

    def parse(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().parse(*args, **kwargs)
        except RecursionError as exc:
            raise ParseError("The JSON is nested too deeply.") from exc


class NoFiles(FileUploadHandler):
    """Refuses a form with a file: 400. Django's own handlers would write the file to /tmp."""

    def new_file(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise MultiPartParserError("a form can't have a file")
