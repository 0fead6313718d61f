"""A request's expected version comes from If-Match or, without that header, from the body."""

import pytest
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from accounts.api.preconditions import NO_VERSION, VersionRequired
from accounts.api.preconditions import expected_version as version_in


def request(**headers: str) -> Request:
    return Request(APIRequestFactory().put("/", headers=headers))


def expected_version(request: Request, in_body: int | None, *, current: int = 0) -> int | None:
    return version_in(request, in_body, current=lambda: current)


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


def test_of_several_versions_the_current_one_is_expected() -> None:
    tags = request(**{"If-Match": '"3", W/"5","x"'})
    assert expected_version(tags, None, current=3) == 3
    assert expected_version(tags, None, current=5) == 5
    assert expected_version(tags, None, current=4) == 5  # any that isn't current
