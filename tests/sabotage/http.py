"""Safeguards of the HTTP API (docs/api.md)."""

from typing import Final

from tests.sabotage.sabotage import Sabotage

HTTP: Final = "tests/unit/config/test_middleware.py"
PAGES: Final = "tests/unit/pages"
FLOW: Final = "tests/integration/pages"
USERS: Final = "tests/integration/accounts/test_users_api.py"

SABOTAGES: Final = (
    Sabotage(
        promise="every response has a Content-Security-Policy",
        file="config/csp.py",
        old="response.headers.setdefault(HEADER, policy(settings.SECURE_CSP))",
        new="pass",
        test=f"{PAGES}/test_security.py::test_a_response_has_the_strict_policy",
    ),
    Sabotage(
        promise="a deployment can refuse the ids of requests",
        file="config/settings/http.py",
        old="REQUEST_IDS_TRUSTED = _env.request_ids_trusted",
        new="REQUEST_IDS_TRUSTED = _env.proxies > 0",
        test="tests/unit/config/test_environ.py"
        "::test_the_ids_of_requests_are_trusted_behind_a_proxy_unless_switched_off",
    ),
    Sabotage(
        promise="the page of an error needs no database",
        file="pages/templates/pages/error.html",
        old="{% block account %}{% endblock %}",
        new="",
        test=f"{PAGES}/test_errors.py::test_a_browser_gets_a_page_that_needs_no_database",
    ),
    Sabotage(
        promise="only staff see figures on the front page",
        file="pages/views.py",
        old='state["warnings"] if is_staff else []',
        new='state["warnings"]',
        test=f"{PAGES}/test_front.py::"
        "test_a_failure_is_words_for_everybody_and_advice_with_figures_for_staff",
    ),
    Sabotage(
        promise="only staff see the flow",
        file="pages/access.py",
        old="return user.is_active and user.is_staff",
        new="return True",
        test=f"{FLOW}/test_flow_status.py::test_only_staff_may_see_the_flow",
    ),
    Sabotage(
        promise="a log-out or a lost right refuses the next poll",
        file="pages/access.py",
        old="if rows and _rows(key, user_id=rows[0]) == rows:",
        new="if rows:",
        test=f"{FLOW}/test_flow_status.py::test_a_poll_costs_one_query_until_its_right_ends",
    ),
    Sabotage(
        promise="a right that ends during the check of a poll isn't kept",
        file="pages/access.py",
        old="rows[1] == user.password and session.decode(rows[2]) == dict(session.items())",
        new="True",
        test=f"{FLOW}/test_flow_status.py::test_a_right_that_ends_during_the_check_is_not_kept",
    ),
    Sabotage(
        promise="no cache stores a page for staff",
        file="pages/access.py",
        old="        add_never_cache_headers(response)",
        new="        pass",
        test=f"{FLOW}/test_flow_status.py::test_only_staff_may_see_the_flow",
    ),
    Sabotage(
        promise="all processes share one state of the flow page",
        file="pages/flow/snapshot.py",
        old="cache.set(self._key, [body, at, life], OLD_SECONDS)",
        new="pass",
        test=f"{FLOW}/test_flow_status.py"
        "::test_polls_of_the_same_second_share_one_computation_in_all_processes",
    ),
    Sabotage(
        promise="an old state isn't shown as the current one",
        file="pages/flow/snapshot.py",
        old="if found is None or not found.is_younger(OLD_SECONDS):",
        new="if found is None:",
        test=f"{FLOW}/test_flow_status.py"
        "::test_a_server_that_hangs_holds_one_poll_and_an_old_state_is_not_shown",
    ),
    Sabotage(
        promise="a retry or drop needs the permission to change parked events",
        file="pages/flow/views.py",
        old="            raise PermissionDenied",
        new="            pass",
        test=f"{FLOW}/test_flow_pages.py::test_staff_without_the_permission_may_look_and_not_act",
    ),
    Sabotage(
        promise="the signature of a request for the status is valid for one path and body",
        file="pages/flow/peers.py",
        old="expected.items() <= claims.items()",
        new="expected.keys() <= claims.keys()",
        test=f"{FLOW}/test_flow_status.py::test_the_status_for_other_deployments_needs_a_signature",
    ),
    Sabotage(
        promise="a list of the admin is filtered only by indexed columns",
        file="outbox/admin/lists.py",
        old='return name in {*self.search_fields, *filters} and kind in {"", "exact", "isempty"}',
        new="return True",
        test="tests/integration/accounts/test_admin.py"
        "::test_a_list_is_filtered_only_by_indexed_columns",
    ),
    Sabotage(
        promise="a chunked body is read",
        file="config/requests.py",
        old='if "HTTP_TRANSFER_ENCODING" in environ and environ.get("wsgi.input_terminated"):',
        new="if False:",
        test=f"{HTTP}::test_a_chunked_body_is_read",
    ),
    Sabotage(
        promise="a body is read before a request is refused",
        file="config/middleware.py",
        old="return _refusal(request) or get_response(request)",
        new="return get_response(request)",
        test=f"{HTTP}::test_a_refused_request_leaves_no_part_of_its_body_on_the_connection",
    ),
    Sabotage(
        promise="the connection of a body with an unknown end closes",
        file="config/requests.py",
        old='if force_close and ("Connection", "close") in headers:',
        new="if False:",
        test=f"{HTTP}::test_a_malformed_chunk_is_400_and_closes_the_connection",
    ),
    Sabotage(
        promise="a redirect keeps the method",
        file="config/middleware.py",
        old="response.status_code = HTTPStatus.PERMANENT_REDIRECT",
        new="pass",
        test=f"{HTTP}::test_a_path_without_its_slash_is_redirected_with_the_same_method",
    ),
    Sabotage(
        promise="a request that fails because a server is away gets 503",
        file="config/problems.py",
        old="if _is_outage(sys.exc_info()[1]):",
        new="if False:",
        test="tests/unit/config/test_problems.py"
        "::test_a_request_that_needs_a_server_that_is_away_is_503_with_retry_after",
    ),
    Sabotage(
        promise="two representations share no ETag",
        file="accounts/api/preconditions.py",
        old="""return {"ETag": f'"{user.version}"'} if is_compact_json else {}""",
        new="""return {"ETag": f'"{user.version}"'}""",
        test=f"{USERS}::test_each_representation_of_a_user_has_its_own_etag",
    ),
    Sabotage(
        promise="a password works in both forms of its letters",
        file="accounts/domain/user.py",
        old='return normalize("NFC", password)',
        new="return password",
        test="tests/integration/accounts/test_login.py"
        "::test_a_password_may_be_typed_composed_or_decomposed",
    ),
    Sabotage(
        promise="a mailbox has one address",
        file="accounts/domain/user.py",
        old="""if "email" in fields and not re.fullmatch(EMAIL, fields["email"]):""",
        new="if False:",
        test="tests/integration/accounts/test_bad_input.py"
        "::test_an_error_names_a_missing_or_malformed_text",
    ),
)
