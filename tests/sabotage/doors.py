"""Safeguards of the doors of docs/security.md that tests/attacks tries."""

from typing import Final

from tests.sabotage.sabotage import Sabotage

ATTACKS: Final = "tests/attacks"
SERVER: Final = f"{ATTACKS}/test_web_server.py"
LOGS: Final = "tests/unit/config/test_logs.py"
DEADLINES: Final = "tests/unit/config/test_deadlines.py"
PERMISSIONS: Final = "tests/integration/accounts/test_permissions.py"
INTERNAL: Final = "tests/integration/accounts/test_internal_routes.py"
DOCKER: Final = "tests/architecture/test_docker.py"

SABOTAGES: Final = (
    Sabotage(
        promise="a form can't have a file",
        file="config/settings/http.py",
        old='FILE_UPLOAD_HANDLERS = ["config.parsing.NoFiles"]  # no form has a file',
        new="",
        test=f"{ATTACKS}/test_bodies.py"
        "::test_a_form_with_a_file_is_refused_before_the_file_is_stored",
    ),
    Sabotage(
        promise="a chunked body is read up to the limit",
        file="config/requests.py",
        old='self._stream = cast(BinaryIO, LimitedStream(environ["wsgi.input"], most))',
        new='self._stream = environ["wsgi.input"]',
        test=f"{ATTACKS}/test_bodies.py::test_a_body_of_200_mebibytes_is_refused_and_hardly_read",
    ),
    Sabotage(
        promise="over ASGI a large body doesn't fill the memory",
        file="config/requests.py",
        old='body += message.get("body", b"")[: most - len(body)]',
        new='body += message.get("body", b"")',
        test=f"{ATTACKS}/test_bodies.py"
        "::test_over_asgi_a_large_body_stays_in_memory_up_to_the_limit",
    ),
    Sabotage(
        promise="over ASGI a body has a deadline",
        file="config/requests.py",
        old="asyncio.timeout(READ_SECONDS)",
        new="asyncio.timeout(None)",
        test=f"{ATTACKS}/test_bodies.py::test_over_asgi_a_body_has_a_deadline",
    ),
    Sabotage(
        promise="a request that the application doesn't answer gets an answer",
        file="config/gunicorn.py",
        old='    if "PATH_INFO" in environ:\n',
        new="    if True:\n",
        test=f"{SERVER}"
        "::test_a_request_that_the_application_does_not_answer_gets_an_answer_and_a_line",
    ),
    Sabotage(
        promise="the log has no e-mail address with characters outside of ASCII",
        file="config/logs.py",
        old=r'_ADDRESS = r"\w\x80-\U0010ffff-"',
        new=r'_ADDRESS = r"\w-"',
        test=f"{LOGS}::test_an_access_line_has_no_address_with_characters_outside_of_ascii",
    ),
    Sabotage(
        promise="an error of the access log keeps no client from its answer",
        file="config/gunicorn.py",
        old='            self.exception("a request has no access line")\n',
        new="            raise\n",
        test=f"{LOGS}::test_an_access_line_that_cannot_be_written_raises_no_error",
    ),
    Sabotage(
        promise="a request has a deadline",
        file="config/deadlines.py",
        old="self.read_by, self.write_by = time.monotonic() + READ_SECONDS, None",
        new="self.read_by, self.write_by = time.monotonic() + 1e6, None",
        test=f"{SERVER}::test_slow_clients_occupy_no_thread_after_their_deadline",
    ),
    Sabotage(
        promise="a client that sends nothing occupies no thread",
        file="config/deadlines.py",
        old="if not conn.initialized and not conn.wait_for_data("
        "0 if self.alive else FIRST_BYTE_SECONDS):",
        new="if False:",
        test=f"{SERVER}::test_clients_that_send_nothing_occupy_no_thread",
    ),
    Sabotage(
        promise="a response has a deadline",
        file="config/deadlines.py",
        old="self.write_by = now + WRITE_SECONDS",
        new="self.write_by = now + 1e6",
        test=f"{SERVER}::test_a_client_that_reads_slowly_occupies_no_thread_after_its_deadline",
    ),
    Sabotage(
        promise="a client that doesn't close its connection delays no other",
        file="config/deadlines.py",
        old="            conn.sock.read_by = time.monotonic() + CLOSE_SECONDS\n"
        "        conn.close(graceful=True)\n",
        # Production's deadline of a request is so long that it doesn't end the wait.
        new="            conn.sock.read_by = float('inf')\n",
        test=f"{SERVER}::test_a_client_that_keeps_a_finished_connection_open_delays_no_other",
    ),
    Sabotage(
        promise="all parts of a response have one deadline",
        file="config/deadlines.py",
        old="        if self.write_by is None:\n            self.write_by",
        new="        self.write_by",
        test=f"{DEADLINES}::test_all_parts_of_a_response_have_one_deadline",
    ),
    Sabotage(
        promise="a connection that its thread closed is counted once",
        file="config/deadlines.py",
        old="        if self.fileno() >= 0:\n            super().setblocking(flag)",
        new="        super().setblocking(flag)",
        test=f"{DEADLINES}::test_a_connection_that_its_thread_closed_is_counted_once",
    ),
    Sabotage(
        promise="the web server formats its lines like all others",
        file="config/gunicorn.py",
        old="super()._set_handler(log, output, formatter(), stream)",
        new="super()._set_handler(log, output, fmt, stream)",
        test=f"{SERVER}::test_a_path_forges_no_log_line_and_reaches_no_terminal",
    ),
    Sabotage(
        promise="a message can't forge a log line",
        file="config/logs.py",
        old="record.message = on_one_line(redact(record.message))",
        new="record.message = redact(record.message)",
        test=f"{LOGS}::test_a_message_stays_on_its_line",
    ),
    Sabotage(
        promise="tokens are redacted",
        file="config/logs.py",
        old='_TOKEN.sub("<token>", text)',
        new="text",
        test=f"{LOGS}::test_secrets_are_redacted",
    ),
    Sabotage(
        promise="passwords in URLs are redacted",
        file="config/logs.py",
        old='return _PASSWORD.sub(r"\\1:<password>@", text)',
        new="return text",
        test=f"{LOGS}::test_secrets_are_redacted",
    ),
    Sabotage(
        promise="an escaped address is redacted",
        file="config/logs.py",
        old="(?:@|%(?:25)*40)",
        new="(?:@)",
        test=f"{LOGS}::test_an_address_in_a_path_is_redacted",
    ),
    Sabotage(
        promise="a process can't command the terminal of the stack",
        file="stack/terminal.py",
        old="self._write(name, printable(text),",
        new="self._write(name, text,",
        test="tests/unit/stack/test_terminal.py"
        "::test_a_line_of_a_process_has_no_commands_for_the_terminal",
    ),
    Sabotage(
        promise="a forwarded header of this machine isn't believed",
        file="config/gunicorn.py",
        old='forwarded_allow_ips = ""',
        new="",
        test=f"{SERVER}::test_a_client_on_this_machine_is_not_believed_to_be_a_proxy",
    ),
    Sabotage(
        promise="with DEBUG on, the web server listens for this machine only",
        file="config/gunicorn.py",
        old="if environment().debug and (public := list(_public(names))):",
        new="if False and (public := list(_public(names))):",
        test=f"{SERVER}::test_a_server_with_debug_on_refuses_to_listen_for_other_machines",
    ),
    Sabotage(
        promise="with DEBUG on, requests through a proxy get no page",
        file="config/middleware.py",
        old='return is_loopback and not {"HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED"} & meta.keys()',
        new="return is_loopback",
        test=f"{ATTACKS}/test_debug.py::test_with_debug_on_another_machine_gets_no_page",
    ),
    Sabotage(
        promise="with DEBUG on, a foreign name of this machine gets no error page",
        file="config/middleware.py",
        old="if not _has_known_host(request):",
        new="if False:",
        test=f"{ATTACKS}/test_debug.py"
        "::test_with_debug_on_a_foreign_name_of_this_machine_gets_no_error_page",
    ),
    Sabotage(
        promise="the guard of DEBUG's pages is installed",
        file="config/settings/applications.py",
        old='*(["config.middleware.this_machine_only"] if DEBUG else []),',
        new="",
        test=f"{ATTACKS}/test_debug.py::test_the_guard_is_installed_where_debug_is_on",
    ),
    Sabotage(
        promise="DEBUG's pages hide the passwords in URLs",
        file="config/debug_page.py",
        old="return without_passwords(cleansed) if isinstance(cleansed, str) else cleansed",
        new="return cleansed",
        test=f"{ATTACKS}/test_debug.py::test_an_error_page_of_debug_shows_no_password",
    ),
    Sabotage(
        promise="a refusal before Django's middleware has its headers",
        file="config/headers.py",
        old="        security.process_response(request, response)\n",
        new="",
        test=f"{ATTACKS}/test_headers.py::test_every_response_says_what_a_browser_may_do_with_it",
    ),
    Sabotage(
        promise="a response of nginx itself has the headers of a service",
        file="docker/nginx/headers.conf",
        old="add_header X-Frame-Options DENY always;\n",
        new="",
        test=f"{DOCKER}::test_every_response_of_nginx_itself_has_the_headers_of_a_service",
    ),
    Sabotage(
        promise="what nginx stores is bounded",
        file="docker/deployments.yml",
        old="/var/cache/nginx:size=256m",
        new="/var/cache/nginx:mode=700",
        test=f"{DOCKER}"
        "::test_nginx_stores_bodies_and_responses_in_bounded_memory_and_never_on_the_disk",
    ),
    Sabotage(
        promise="a build uses the image with the digest that was written",
        file="docker/pin.sh",
        old='echo "$name=$pinned"',
        new='echo "$name=$tag"',
        test=f"{DOCKER}::test_the_digests_of_all_images_are_written_once_and_renewed",
    ),
    Sabotage(
        promise="the shortest generated password is found in every file",
        file="tests/architecture/leaks.py",
        old=", *HEX.findall(line)]",
        new="]",
        test="tests/architecture/test_leaks.py::test_a_secret_is_found_in_every_kind_of_file",
    ),
    Sabotage(
        promise="a user reads only itself",
        file="accounts/api/access.py",
        old="if not who.is_staff and who.id != user_id:",
        new="if False:",
        test=f"{PERMISSIONS}::test_each_caller_may_do_what_the_matrix_says",
    ),
    Sabotage(
        promise="a user changes only itself",
        file="accounts/api/access.py",
        old="if caller(request).id != user_id:",
        new="if False:",
        test=f"{PERMISSIONS}::test_a_foreign_user_and_an_unknown_user_look_alike",
    ),
    Sabotage(
        promise="a session changes nothing without a CSRF token",
        file="config/identity.py",
        old="        self.enforce_csrf(request)\n",
        new="",
        test=f"{PERMISSIONS}::test_a_session_without_a_csrf_token_changes_nothing",
    ),
    Sabotage(
        promise="the routes between services refuse everyone else",
        file="accounts/api/peers.py",
        old="return isinstance(request.user, Peer)",
        new="return True",
        test=f"{INTERNAL}::test_users_and_staff_are_refused",
    ),
    Sabotage(
        promise="processes of the previous release can insert rows after the migrations",
        file="orders/migrations/0008_dropped_events.py",
        old='name="dropped_by",\n            field=models.TextField(blank=True, db_default="", ',
        new='name="dropped_by",\n            field=models.TextField(blank=True, ',
        test="tests/architecture/test_migrations.py"
        "::test_migrations_since_the_previous_release_only_expand_the_schema",
    ),
    Sabotage(
        promise="a token of a service is signed with the key of the services",
        file="accounts/api/peers.py",
        old='options={"require": CLAIMS},',
        new='options={"require": CLAIMS, "verify_signature": False},',
        test=f"{INTERNAL}::test_a_token_with_a_wrong_key_or_claim_is_refused",
    ),
    Sabotage(
        promise="accounts accepts a token of a service once",
        file="accounts/api/peers.py",
        old='if not _is_first_use(str(claims["jti"])):',
        new="if False:",
        test=f"{ATTACKS}/test_peer_tokens.py::test_a_request_of_a_service_is_accepted_once",
    ),
    Sabotage(
        promise="the clocks of two services may differ by seconds",
        file="accounts/api/peers.py",
        old="            leeway=settings.JWT_LEEWAY_SECONDS,\n",
        new="",
        test=f"{ATTACKS}/test_peer_tokens.py::test_the_clocks_of_two_services_may_differ_by_seconds",
    ),
    Sabotage(
        promise="a token of a service is for one query",
        file="accounts/api/peers.py",
        old='"htu": request.get_full_path(),',
        new='"htu": request.path,',
        test=f"{ATTACKS}/test_peer_tokens.py"
        "::test_a_captured_request_is_refused_with_another_query_path_or_body",
    ),
    Sabotage(
        promise="a deployment accepts a request for its status once",
        file="pages/flow/peers.py",
        old='if not cache.add(f"peer-token:{used}", True, timeout=kept_seconds):',
        new="if False:",
        test=f"{ATTACKS}/test_peer_tokens.py::test_a_request_of_a_service_is_accepted_once",
    ),
    Sabotage(
        promise="accounts logs why it refuses a token of a service",
        file="accounts/api/peers.py",
        old="            log.warning(",
        new="            log.debug(",
        test=f"{ATTACKS}/test_peer_tokens.py"
        "::test_a_refused_token_of_a_service_is_logged_with_the_reason_and_not_itself",
    ),
    Sabotage(
        promise="a deployment logs why it refuses a request for its status",
        file="pages/flow/peers.py",
        old="        log.warning(",
        new="        log.debug(",
        test=f"{ATTACKS}/test_peer_tokens.py"
        "::test_a_refused_token_of_a_service_is_logged_with_the_reason_and_not_itself",
    ),
    Sabotage(
        promise="the stream server's users get the new passwords",
        file="docker/secrets.sh",
        old="mv -f .streams-users streams-users",
        new="[ -e streams-users ] || mv -f .streams-users streams-users",
        test=f"{ATTACKS}/test_leaked_keys.py"
        "::test_the_runbook_replaces_each_leaked_secret_and_no_other",
    ),
    Sabotage(
        promise="a request for the status is valid for a short time only",
        file="pages/flow/peers.py",
        old="if lifetime > TOKEN_SECONDS or not",
        new="if not",
        test=f"{ATTACKS}/test_peer_tokens.py::test_a_token_that_is_valid_for_longer_is_refused",
    ),
    Sabotage(
        promise="a request to accounts is valid for a short time only",
        file="accounts/api/peers.py",
        old="if lifetime > MAX_LIFETIME_SECONDS or not",
        new="if not",
        test=f"{ATTACKS}/test_peer_tokens.py::test_a_token_that_is_valid_for_longer_is_refused",
    ),
    Sabotage(
        promise="a leaked secret is in no file after the runbook",
        file="docs/security.md",
        old="| `ring.conf` `cache-urls` |",
        new="| `cache-urls` |",
        test=f"{ATTACKS}/test_leaked_keys.py"
        "::test_the_runbook_replaces_each_leaked_secret_and_no_other",
    ),
)
