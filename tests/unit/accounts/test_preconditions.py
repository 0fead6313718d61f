"""A request's expected version comes from If-Match or, without that header, from the body."""

import pytest
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from accounts.api.preconditions import NO_VERSION, VersionRequired, expected_version


def request(**headers: str) -> Request:
    return Request(APIRequestFactory().put("/", headers=headers))


@pytest.mark.parametrize("tag", ['"7"', ' "7" ', 'W/"7"'])
def test_the_etag_names_the_version(tag: str) -> None:
    assert expected_version(request(**{"If-Match": tag}), None) == 7


def test_the_version_in_the_body_is_used_only_without_a_header() -> None:
    assert expected_version(request(), 5) == 5
    assert expected_version(request(**{"If-Match": '"7"'}), 5) == 7


def test_a_star_matches_any_version() -> None:
    assert expected_version(request(**{"If-Match": "*"}), None) is None


def test_a_missing_version_is_refused() -> None:
    with pytest.raises(VersionRequired):
        expected_version(request(), None)


@pytest.mark.parametrize("tag", ["7", '"x"', '""', '"-1"', "", '"99999999999"', '"٧"'])
def test_a_malformed_tag_matches_no_version(tag: str) -> None:
    assert expected_version(request(**{"If-Match": tag}), 7) == NO_VERSION


def test_several_tags_are_a_bad_request() -> None:
    with pytest.raises(ParseError):
        expected_version(request(**{"If-Match": '"1", "2"'}), None)
